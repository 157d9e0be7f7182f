// The bindings of the phase's kernels that only CUDA has: with the transforms inside, or around
// transforms of somebody else.
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/phase_checks.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {

#ifdef FVFAST_WITH_CUDA
namespace {

using CudaTarget = std::pair<int, uintptr_t>;
using Sizes = std::vector<int64_t>;
using Colors = std::vector<std::vector<double>>;

bool transform_fits(const std::string& dtype, const Sizes& sizes, bool has_colors, int device) {
  const std::string name = "transform_fits";
  return cuda::transform_fits(real_of(name, "dtype", dtype), sizes_of(name, sizes), has_colors,
                              device);
}

int64_t phase_image_scratch(const std::string& dtype, const Sizes& sizes) {
  const std::string name = "phase_image_scratch";
  return cuda::phase_image_scratch(real_of(name, "dtype", dtype), sizes_of(name, sizes));
}

int64_t phase_image_gradient_scratch(const std::string& dtype, const Sizes& sizes) {
  const std::string name = "phase_image_gradient_scratch";
  return cuda::phase_image_gradient_scratch(real_of(name, "dtype", dtype), sizes_of(name, sizes));
}

// What both directions take.
template <typename Params>
Params params_of(const std::string& name, uintptr_t magnitude, uintptr_t phase, uintptr_t scratch,
                 uintptr_t statistics, const std::string& dtype, const Sizes& sizes,
                 double epsilon) {
  Params params{};
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  if (params.sizes.images > 0) {
    require_address(name, "magnitude", magnitude);
    require_address(name, "phase", phase);
    require_address(name, "statistics", statistics);
    require_address(name, "scratch", scratch);
  }
  if (scratch % 64 != 0) reject(name, "scratch", "an address aligned to 64", "one that is not");
  params.magnitude = reinterpret_cast<const void*>(magnitude);
  params.phase = reinterpret_cast<const void*>(phase);
  params.statistics = reinterpret_cast<SpectrumStatistics*>(statistics);
  params.scratch = reinterpret_cast<void*>(scratch);
  return params;
}

void take_sums(const std::string& name, uintptr_t phase_sums, int64_t parts,
               PhaseImageParams& params) {
  params.phase_sums = reinterpret_cast<const double*>(phase_sums);
  params.sum_parts = parts;
  if (phase_sums != 0 && parts < 1) {
    reject(name, "sum_parts", "an integer >= 1", std::to_string(parts));
  }
}

void require_fit(const std::string& name, DType dtype, const SpectrumSizes& sizes, bool has_colors,
                 const CudaTarget& target) {
  if (!cuda::transform_fits(dtype, sizes, has_colors, target.first)) {
    reject(name, "sizes", "a height and a width of transform_fits()",
           std::to_string(sizes.height) + " x " + std::to_string(sizes.width));
  }
}

void phase_image(uintptr_t magnitude, uintptr_t phase, uintptr_t phase_sums, int64_t sum_parts,
                 uintptr_t image, uintptr_t statistics, uintptr_t scratch, const std::string& dtype,
                 const Sizes& sizes, double epsilon, double low, double high, const Colors& colors,
                 const CudaTarget& target) {
  const std::string name = "phase_image";
  PhaseImageParams params = params_of<PhaseImageParams>(name, magnitude, phase, scratch, statistics,
                                                        dtype, sizes, epsilon);
  take_sums(name, phase_sums, sum_parts, params);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  require_address(name, "image", image);
  params.image = reinterpret_cast<void*>(image);
  require_fit(name, params.dtype, params.sizes, params.has_colors, target);
  py::gil_scoped_release unlocked;
  cuda::phase_image(params, target_of(target));
}

void phase_spectrum(uintptr_t magnitude, uintptr_t phase, uintptr_t phase_sums, int64_t sum_parts,
                    uintptr_t spectrum, uintptr_t statistics, uintptr_t scratch,
                    const std::string& dtype, const Sizes& sizes, double epsilon,
                    const CudaTarget& target) {
  const std::string name = "phase_spectrum";
  PhaseImageParams params = params_of<PhaseImageParams>(name, magnitude, phase, scratch, statistics,
                                                        dtype, sizes, epsilon);
  take_sums(name, phase_sums, sum_parts, params);
  if (params.sizes.images == 0) return;
  require_address(name, "spectrum", spectrum);
  py::gil_scoped_release unlocked;
  cuda::phase_spectrum(params, reinterpret_cast<void*>(spectrum), target_of(target));
}

void phase_image_gradient(uintptr_t gradient, uintptr_t image, uintptr_t magnitude, uintptr_t phase,
                          uintptr_t statistics, uintptr_t out, uintptr_t scratch, bool finish,
                          const std::string& dtype, const Sizes& sizes, double epsilon, double low,
                          double high, const Colors& colors, const CudaTarget& target) {
  const std::string name = "phase_image_gradient";
  PhaseImageGradientParams params = params_of<PhaseImageGradientParams>(
      name, magnitude, phase, scratch, statistics, dtype, sizes, epsilon);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  require_address(name, "gradient", gradient);
  require_address(name, "image", image);
  if (finish) require_address(name, "out", out);
  params.gradient = reinterpret_cast<const void*>(gradient);
  params.image = reinterpret_cast<const void*>(image);
  params.out = reinterpret_cast<void*>(out);
  params.finish = finish;
  require_fit(name, params.dtype, params.sizes, params.has_colors, target);
  py::gil_scoped_release unlocked;
  cuda::phase_image_gradient(params, target_of(target));
}

void phase_gradient(uintptr_t transform, uintptr_t magnitude, uintptr_t phase, uintptr_t statistics,
                    uintptr_t out, uintptr_t scratch, const std::string& dtype, const Sizes& sizes,
                    double epsilon, const CudaTarget& target) {
  const std::string name = "phase_gradient";
  PhaseImageGradientParams params = params_of<PhaseImageGradientParams>(
      name, magnitude, phase, scratch, statistics, dtype, sizes, epsilon);
  if (params.sizes.images == 0) return;
  require_address(name, "transform", transform);
  require_address(name, "out", out);
  params.out = reinterpret_cast<void*>(out);
  py::gil_scoped_release unlocked;
  cuda::phase_gradient(params, reinterpret_cast<const void*>(transform), target_of(target));
}

}  // namespace

void bind_phase_cuda(py::module_& module) {
  module.attr("UPDATE_PARTS") = kUpdateParts;
  module.def("transform_fits", &transform_fits, py::kw_only(), py::arg("dtype"), py::arg("sizes"),
             py::arg("has_colors"), py::arg("device"),
             "Whether the device transforms this height and width in shared memory.");
  module.def("phase_image_scratch", &phase_image_scratch, py::kw_only(), py::arg("dtype"),
             py::arg("sizes"), "Bytes of scratch for phase_image and cuda_phase_spectrum.");
  module.def("phase_image_gradient_scratch", &phase_image_gradient_scratch, py::kw_only(),
             py::arg("dtype"), py::arg("sizes"),
             "Bytes of scratch for phase_image_gradient and cuda_phase_gradient.");
  module.def("phase_image", &phase_image, py::kw_only(), py::arg("magnitude"), py::arg("phase"),
             py::arg("phase_sums"), py::arg("sum_parts"), py::arg("image"), py::arg("statistics"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             py::arg("low"), py::arg("high"), py::arg("colors"), py::arg("target"),
             "Phase to image; the address phase_sums may be 0.");
  module.def("phase_image_gradient", &phase_image_gradient, py::kw_only(), py::arg("gradient"),
             py::arg("image"), py::arg("magnitude"), py::arg("phase"), py::arg("statistics"),
             py::arg("out"), py::arg("scratch"), py::arg("finish"), py::arg("dtype"),
             py::arg("sizes"), py::arg("epsilon"), py::arg("low"), py::arg("high"),
             py::arg("colors"), py::arg("target"),
             "The gradient of the phase from that of the image; without finish, for phase_update.");
  module.def("cuda_phase_spectrum", &phase_spectrum, py::kw_only(), py::arg("magnitude"),
             py::arg("phase"), py::arg("phase_sums"), py::arg("sum_parts"), py::arg("spectrum"),
             py::arg("statistics"), py::arg("scratch"), py::arg("dtype"), py::arg("sizes"),
             py::arg("epsilon"), py::arg("target"),
             "The half spectrum of a phase, and the statistics of its image.");
  module.def("cuda_phase_gradient", &phase_gradient, py::kw_only(), py::arg("transform"),
             py::arg("magnitude"), py::arg("phase"), py::arg("statistics"), py::arg("out"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             py::arg("target"),
             "The gradient of the phase from the transform of the gradient before the colours.");
}

#else

void bind_phase_cuda(py::module_&) {}

#endif

}  // namespace fvfast
