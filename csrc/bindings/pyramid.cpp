// The bindings of the pyramid: to its image, and back.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/phase_checks.h"
#include "bindings/target.h"
#include "common/pyramid.h"
#include "ops.h"

namespace fvfast {
namespace {

using Sizes = std::vector<int64_t>;

// Checks (N, C, H, W) and the number of levels, and returns the elements of a channel's pyramid.
int64_t take_sizes(const std::string& function, const Sizes& sizes, int64_t levels,
                   PyramidSizes* out) {
  check_phase_sizes(function, sizes, 4, "(N, C, H, W)");
  for (const int64_t side : {sizes[2], sizes[3]}) {
    if (side > kLongestSide) {
      reject(function, "sizes", "a height and a width of at most 32768", std::to_string(side));
    }
  }
  const PyramidLevels all = levels_of(sizes[2], sizes[3]);
  if (levels < 1 || levels > all.count) {
    reject(function, "levels", "1 to " + std::to_string(all.count), std::to_string(levels));
  }
  *out = {sizes[0], sizes[1], sizes[2], sizes[3], levels};
  // A pyramid has at most five times as many elements as its image, where that is a line.
  if (out->planes() > kMaxElements / all.elements) {
    reject(function, "sizes", "at most 2^48 elements", "more");
  }
  return out->planes() * all.elements;
}

void pyramid_image(const Buffer& pyramid, const Buffer& image, const std::string& dtype,
                   const Sizes& sizes, int64_t levels, double low, double high, double gain,
                   const std::vector<std::vector<double>>& colors, const TargetArgument& target) {
  const std::string name = "pyramid_image";
  PyramidImageParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  const int64_t elements = take_sizes(name, sizes, levels, &params.sizes);
  params.gain = finite_of(name, "gain", gain);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  Memory memory(name);
  params.pyramid = memory.reads("pyramid", pyramid, params.dtype, elements);
  params.image =
      memory.writes("image", image, params.dtype, params.sizes.planes() * params.sizes.area());
  memory.require_apart();
  run_on(target, params, &cpu::pyramid_image, FVFAST_CUDA_LAUNCHER(pyramid_image));
}

int64_t scratch_of(const std::string& function, const PyramidGradientParams& params,
                   const TargetArgument& target) {
  if (!target.has_value()) return cpu::pyramid_gradient_scratch(params);
#ifdef FVFAST_WITH_CUDA
  return cuda::pyramid_gradient_scratch(params);
#else
  reject(function, "target", "None in a module without CUDA kernels", "a device");
#endif
}

int64_t pyramid_gradient_scratch(const std::string& dtype, const Sizes& sizes, int64_t levels,
                                 const TargetArgument& target) {
  const std::string name = "pyramid_gradient_scratch";
  PyramidGradientParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  take_sizes(name, sizes, levels, &params.sizes);
  return scratch_of(name, params, target);
}

void pyramid_gradient(const Buffer& gradient, const Buffer& image, const Buffer& out,
                      const Buffer& scratch, const std::string& dtype, const Sizes& sizes,
                      int64_t levels, double low, double high, double gain,
                      const std::vector<std::vector<double>>& colors,
                      const TargetArgument& target) {
  const std::string name = "pyramid_gradient";
  PyramidGradientParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  const int64_t elements = take_sizes(name, sizes, levels, &params.sizes);
  params.gain = finite_of(name, "gain", gain);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  const int64_t pixels = params.sizes.planes() * params.sizes.area();
  Memory memory(name);
  if (const int64_t bytes = scratch_of(name, params, target); bytes > 0) {
    params.scratch = memory.writes_bytes("scratch", scratch, bytes, kScratchAlignment);
  }
  params.gradient = memory.reads("gradient", gradient, params.dtype, pixels);
  params.image = memory.reads("image", image, params.dtype, pixels);
  params.out = memory.writes("out", out, params.dtype, elements);
  memory.require_apart();
  run_on(target, params, &cpu::pyramid_gradient, FVFAST_CUDA_LAUNCHER(pyramid_gradient));
}

}  // namespace

void bind_pyramid(py::module_& module) {
  module.def("pyramid_image", &pyramid_image, py::kw_only(), py::arg("pyramid"), py::arg("image"),
             py::arg("dtype"), py::arg("sizes"), py::arg("levels"), py::arg("low"), py::arg("high"),
             py::arg("gain"), py::arg("colors"), py::arg("target"),
             "The image that the levels of a pyramid add up to. Sizes are (N, C, H, W).");
  module.def("pyramid_gradient_scratch", &pyramid_gradient_scratch, py::kw_only(), py::arg("dtype"),
             py::arg("sizes"), py::arg("levels"), py::arg("target"),
             "Bytes of scratch for pyramid_gradient.");
  module.def("pyramid_gradient", &pyramid_gradient, py::kw_only(), py::arg("gradient"),
             py::arg("image"), py::arg("out"), py::arg("scratch"), py::arg("dtype"),
             py::arg("sizes"), py::arg("levels"), py::arg("low"), py::arg("high"), py::arg("gain"),
             py::arg("colors"), py::arg("target"),
             "The gradient of pyramid_image with respect to the pyramid. The size of scratch is in "
             "bytes.");
}

}  // namespace fvfast
