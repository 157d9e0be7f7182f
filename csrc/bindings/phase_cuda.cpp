// The bindings of the phase's kernels that only CUDA has: with the transforms inside, or for
// transforms that are done elsewhere.
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
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

// The parameters that both directions take, without those that are memory.
template <typename Params>
Params params_of(const std::string& name, const std::string& dtype, const Sizes& sizes,
                 double epsilon) {
  Params params{};
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  return params;
}

// The phase and its magnitude.
template <typename Params>
void take_spectrum(const Buffer& magnitude, const Buffer& phase, Memory& memory, Params& params) {
  const int64_t bins = params.sizes.bins();
  params.magnitude = memory.reads("magnitude", magnitude, params.dtype, bins);
  params.phase = memory.reads("phase", phase, params.dtype, params.sizes.images * bins);
}

// Memory of the way from the phase to the image.
void take_forward(const std::string& name, const Buffer& magnitude, const Buffer& phase,
                  const Buffer& phase_sums, int64_t parts, const Buffer& statistics,
                  const Buffer& scratch, Memory& memory, PhaseImageParams& params) {
  const int64_t images = params.sizes.images;
  take_spectrum(magnitude, phase, memory, params);
  if (phase_sums.first != 0) {
    if (parts < 1 || parts > kMaxElements / (2 * images)) {
      reject(name, "sum_parts", "an integer >= 1 that makes at most 2^48 sums",
             std::to_string(parts));
    }
    params.sum_parts = parts;
    params.phase_sums = static_cast<const double*>(
        memory.reads("phase_sums", phase_sums, DType::kFloat64, 2 * images * parts));
  }
  params.statistics = write_statistics(memory, statistics, images);
  const int64_t bytes = cuda::phase_image_scratch(params.dtype, params.sizes);
  params.scratch = memory.writes_bytes("scratch", scratch, bytes, kScratchAlignment);
}

// Memory of the way back.
void take_backward(const Buffer& magnitude, const Buffer& phase, const Buffer& statistics,
                   const Buffer& scratch, Memory& memory, PhaseImageGradientParams& params) {
  take_spectrum(magnitude, phase, memory, params);
  params.statistics = read_statistics(memory, statistics, params.sizes.images);
  const int64_t bytes = cuda::phase_image_gradient_scratch(params.dtype, params.sizes);
  params.scratch = memory.writes_bytes("scratch", scratch, bytes, kScratchAlignment);
}

void phase_image(const Buffer& magnitude, const Buffer& phase, const Buffer& phase_sums,
                 int64_t sum_parts, const Buffer& image, const Buffer& statistics,
                 const Buffer& scratch, const std::string& dtype, const Sizes& sizes,
                 double epsilon, double low, double high, const Colors& colors,
                 const CudaTarget& target) {
  const std::string name = "phase_image";
  PhaseImageParams params = params_of<PhaseImageParams>(name, dtype, sizes, epsilon);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  Memory memory(name);
  take_forward(name, magnitude, phase, phase_sums, sum_parts, statistics, scratch, memory, params);
  const int64_t pixels = params.sizes.images * params.sizes.pixels();
  params.image = memory.writes("image", image, params.dtype, pixels);
  memory.require_apart();
  require_fit(name, "sizes", params.dtype, params.sizes, params.has_colors, target.first);
  py::gil_scoped_release unlocked;
  cuda::phase_image(params, target_of(target));
}

void phase_spectrum(const Buffer& magnitude, const Buffer& phase, const Buffer& phase_sums,
                    int64_t sum_parts, const Buffer& spectrum, const Buffer& statistics,
                    const Buffer& scratch, const std::string& dtype, const Sizes& sizes,
                    double epsilon, const CudaTarget& target) {
  const std::string name = "phase_spectrum";
  PhaseImageParams params = params_of<PhaseImageParams>(name, dtype, sizes, epsilon);
  if (params.sizes.images == 0) return;
  Memory memory(name);
  take_forward(name, magnitude, phase, phase_sums, sum_parts, statistics, scratch, memory, params);
  const int64_t bins = params.sizes.images * params.sizes.bins();
  void* const out = memory.writes("spectrum", spectrum, params.dtype, 2 * bins);
  memory.require_apart();
  py::gil_scoped_release unlocked;
  cuda::phase_spectrum(params, out, target_of(target));
}

void phase_image_gradient(const Buffer& gradient, const Buffer& image, const Buffer& magnitude,
                          const Buffer& phase, const Buffer& statistics, const Buffer& out,
                          const Buffer& scratch, bool finish, const std::string& dtype,
                          const Sizes& sizes, double epsilon, double low, double high,
                          const Colors& colors, const CudaTarget& target) {
  const std::string name = "phase_image_gradient";
  PhaseImageGradientParams params =
      params_of<PhaseImageGradientParams>(name, dtype, sizes, epsilon);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  Memory memory(name);
  take_backward(magnitude, phase, statistics, scratch, memory, params);
  const int64_t pixels = params.sizes.images * params.sizes.pixels();
  params.gradient = memory.reads("gradient", gradient, params.dtype, pixels);
  params.image = memory.reads("image", image, params.dtype, pixels);
  if (finish) {
    const int64_t bins = params.sizes.images * params.sizes.bins();
    params.out = memory.writes("out", out, params.dtype, bins);
  }
  memory.require_apart();
  params.finish = finish;
  require_fit(name, "sizes", params.dtype, params.sizes, params.has_colors, target.first);
  py::gil_scoped_release unlocked;
  cuda::phase_image_gradient(params, target_of(target));
}

void phase_gradient(const Buffer& transform, const Buffer& magnitude, const Buffer& phase,
                    const Buffer& statistics, const Buffer& out, const Buffer& scratch,
                    const std::string& dtype, const Sizes& sizes, double epsilon,
                    const CudaTarget& target) {
  const std::string name = "phase_gradient";
  PhaseImageGradientParams params =
      params_of<PhaseImageGradientParams>(name, dtype, sizes, epsilon);
  if (params.sizes.images == 0) return;
  Memory memory(name);
  take_backward(magnitude, phase, statistics, scratch, memory, params);
  const int64_t bins = params.sizes.images * params.sizes.bins();
  const void* const half = memory.reads("transform", transform, params.dtype, 2 * bins);
  params.out = memory.writes("out", out, params.dtype, bins);
  memory.require_apart();
  py::gil_scoped_release unlocked;
  cuda::phase_gradient(params, half, target_of(target));
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
             "Phase to image; phase_sums may be (0, 0).");
  module.def(
      "phase_image_gradient", &phase_image_gradient, py::kw_only(), py::arg("gradient"),
      py::arg("image"), py::arg("magnitude"), py::arg("phase"), py::arg("statistics"),
      py::arg("out"), py::arg("scratch"), py::arg("finish"), py::arg("dtype"), py::arg("sizes"),
      py::arg("epsilon"), py::arg("low"), py::arg("high"), py::arg("colors"), py::arg("target"),
      "The gradient of the phase from that of the image; if not finish, phase_update ends it.");
  module.def("cuda_phase_spectrum", &phase_spectrum, py::kw_only(), py::arg("magnitude"),
             py::arg("phase"), py::arg("phase_sums"), py::arg("sum_parts"), py::arg("spectrum"),
             py::arg("statistics"), py::arg("scratch"), py::arg("dtype"), py::arg("sizes"),
             py::arg("epsilon"), py::arg("target"),
             "The half spectrum of a phase, and the statistics of its image.");
  module.def("cuda_phase_gradient", &phase_gradient, py::kw_only(), py::arg("transform"),
             py::arg("magnitude"), py::arg("phase"), py::arg("statistics"), py::arg("out"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             py::arg("target"),
             "The gradient of the phase from the transform of the gradient before the colors.");
}

#else

void bind_phase_cuda(py::module_&) {}

#endif

}  // namespace fvfast
