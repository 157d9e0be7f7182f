// The bindings of cropping and of its gradient.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/tables.h"
#include "bindings/target.h"
#include "common/bilinear.h"
#include "ops.h"

namespace fvfast {
namespace {

// {batch, crops, channels, image_height, image_width, height, width}
using Sizes = std::array<int64_t, 7>;
using Strides = std::vector<int64_t>;

// Offsets within a row are 32-bit integers, and a position needs bits left for a fraction.
constexpr int64_t kMaxLength = int64_t{1} << 24;

// Checks the sizes and puts them into the struct of an op. Returns whether there is nothing to do.
template <typename Params>
bool take_sizes(const std::string& name, const Sizes& sizes, Params& params) {
  params.batch = sizes[0];
  params.crops = sizes[1];
  params.channels = sizes[2];
  params.image_height = sizes[3];
  params.image_width = sizes[4];
  params.height = sizes[5];
  params.width = sizes[6];
  const bool no_pixels = check_sizes(name, "sizes", {sizes[0], sizes[2], sizes[3], sizes[4]});
  const bool no_crops =
      check_sizes(name, "sizes", {sizes[0], sizes[1], sizes[2], sizes[5], sizes[6]});
  for (size_t d = 3; d < sizes.size(); ++d) {
    if (sizes[d] > kMaxLength) {
      reject(name, "sizes", "heights and widths up to 2^24", std::to_string(sizes[d]));
    }
  }
  const bool nothing = no_crops || sizes[0] == 0 || sizes[2] == 0;
  if (no_pixels && !nothing) {
    reject(name, "sizes", "images with at least one pixel", "images without pixels");
  }
  return nothing;
}

// Checks the boxes themselves, which can be read here only if they are on the CPU.
template <typename Params>
void check_boxes(const std::string& name, const Params& params) {
  for (int64_t i = 0; i < params.batch * params.crops; ++i) {
    const Box box = box_at(params.boxes, params.box_dtype, i);
    for (const double number : {box.y1, box.x1, box.y2, box.x2}) {
      if (!std::isfinite(number)) reject(name, "boxes", "finite numbers", std::to_string(number));
    }
  }
}

template <typename Params>
void take_boxes(const Buffer& boxes, Memory& memory, Params& params) {
  params.boxes = memory.reads("boxes", boxes, params.box_dtype, 4 * params.batch * params.crops);
}

void check_row_stride(const std::string& name, const std::string& argument, int64_t size,
                      int64_t stride) {
  if (size > 1 && stride > INT32_MAX / size) {
    reject(name, argument, "a row of less than 2^31 elements",
           "a stride of " + std::to_string(stride));
  }
}

#ifdef FVFAST_WITH_CUDA
int64_t cuda_scratch_of(const CropGradientParams& params, const cuda::Target& target) {
  return cuda::crop_gradient_scratch(params, target);
}
#else
// The launch is refused.
int64_t cuda_scratch_of(const CropGradientParams&, const cuda::Target&) { return 0; }
#endif

// Bytes of scratch memory, which are limited as the elements of any tensor are.
int64_t scratch_of(const std::string& name, const CropGradientParams& params,
                   const TargetArgument& target) {
  const int64_t bytes = target.has_value() ? cuda_scratch_of(params, target_of(*target))
                                           : cpu::crop_gradient_scratch(params);
  if (bytes > kMaxElements) reject(name, "sizes", "at most 2^48 bytes of scratch memory", "more");
  return bytes;
}

void crop_resize(const Buffer& images, const Buffer& boxes, const Buffer& out,
                 const std::string& image_dtype, const std::string& box_dtype,
                 const std::string& out_dtype, const Sizes& sizes, const Strides& image_strides,
                 const Strides& out_strides, const std::vector<int64_t>& identities, double std,
                 double uniform_width, uint64_t seed, int64_t step, const Buffer& counter,
                 const TableArgument& std_table, const TableArgument& uniform_width_table,
                 const TableArgument& identity_table, const TargetArgument& target) {
  const std::string name = "crop_resize";
  CropParams params{};
  params.image_dtype = real_of(name, "image_dtype", image_dtype);
  params.box_dtype = real_of(name, "box_dtype", box_dtype);
  params.out_dtype = dtype_of(name, "out_dtype", out_dtype);
  const bool nothing = take_sizes(name, sizes, params);
  copy_strides(name, "image_strides", image_strides, 4, params.image_strides);
  copy_strides(name, "out_strides", out_strides, 5, params.out_strides);
  params.std = scale_of(name, "std", std);
  params.uniform_width = scale_of(name, "uniform_width", uniform_width);
  Memory memory(name);
  const std::vector<uint32_t> words =
      take_identities(name, identities, identity_table, params.batch, target, memory, params);
  params.seed = seed;
  params.step = word_of(name, "step", step);
  params.counter = counter_of(name, counter, target, memory);
  const bool tables =
      take_noise_tables(name, std_table, uniform_width_table, target, memory, params);
  if (nothing) return;

  const std::vector<int64_t> image_sizes = {params.batch, params.channels, params.image_height,
                                            params.image_width};
  const std::vector<int64_t> out_sizes = {params.batch, params.crops, params.channels,
                                          params.height, params.width};
  // The number of an element divided by four is a 32-bit word of the counter.
  if (params.crops * params.channels * params.height * params.width > int64_t{1} << 34 &&
      (std > 0 || uniform_width > 0 || tables)) {
    reject(name, "sizes", "at most 2^34 elements per image, for noise", "more");
  }
  check_row_stride(name, "image_strides", params.image_width, params.image_strides[3]);
  take_boxes(boxes, memory, params);
  if (!target.has_value()) check_boxes(name, params);
  params.images = memory.reads("images", images, params.image_dtype, image_sizes, image_strides);
  params.out = memory.writes("out", out, params.out_dtype, out_sizes, out_strides);
  memory.require_apart();
  run_on(target, params, &cpu::crop_resize, FVFAST_CUDA_LAUNCHER(crop_resize));
}

int64_t crop_gradient_scratch(const std::string& image_dtype, const Sizes& sizes,
                              const TargetArgument& target) {
  const std::string name = "crop_gradient_scratch";
  CropGradientParams params{};
  params.image_dtype = real_of(name, "image_dtype", image_dtype);
  return take_sizes(name, sizes, params) ? 0 : scratch_of(name, params, target);
}

// What only CUDA takes: which images run, and what the step learns of their gradients.
void take_flags(const std::string& name, const Buffer& running, const Buffer& flags,
                const TargetArgument& target, Memory& memory, CropGradientParams& params) {
  if (!target.has_value() && (running.first != 0 || flags.first != 0)) {
    reject(name, running.first != 0 ? "running" : "flags", "none on the CPU", "an address");
  }
  if (running.first != 0) params.running = memory.reads_flags("running", running, params.batch);
  if (flags.first != 0) params.flags = memory.writes_words("flags", flags, params.batch);
}

void crop_gradient(const Buffer& gradient, const Buffer& boxes, const Buffer& image_gradient,
                   const Buffer& transparency, const Buffer& scratch,
                   const std::string& gradient_dtype, const std::string& image_dtype,
                   const std::string& box_dtype, const Sizes& sizes,
                   const Strides& gradient_strides, const Strides& transparency_strides,
                   const Buffer& running, const Buffer& flags, const TargetArgument& target) {
  const std::string name = "crop_gradient";
  CropGradientParams params{};
  params.gradient_dtype = dtype_of(name, "gradient_dtype", gradient_dtype);
  params.image_dtype = real_of(name, "image_dtype", image_dtype);
  params.box_dtype = real_of(name, "box_dtype", box_dtype);
  const bool nothing = take_sizes(name, sizes, params);
  copy_strides(name, "gradient_strides", gradient_strides, 5, params.gradient_strides);
  copy_strides(name, "transparency_strides", transparency_strides, 4, params.transparency_strides);
  if (nothing) return;

  const std::vector<int64_t> image_sizes = {params.batch, params.channels, params.image_height,
                                            params.image_width};
  const std::vector<int64_t> crop_sizes = {params.batch, params.crops, params.channels,
                                           params.height, params.width};
  const int64_t pixels = params.batch * params.channels * params.image_height * params.image_width;
  Memory memory(name);
  if (const int64_t bytes = scratch_of(name, params, target); bytes > 0) {
    params.scratch = memory.writes_bytes("scratch", scratch, bytes, 64);
  }
  take_boxes(boxes, memory, params);
  if (!target.has_value()) check_boxes(name, params);
  params.gradient =
      memory.reads("gradient", gradient, params.gradient_dtype, crop_sizes, gradient_strides);
  params.image_gradient =
      memory.writes("image_gradient", image_gradient, params.image_dtype, pixels);
  if (transparency.first != 0) {
    params.transparency = memory.writes("transparency", transparency, params.image_dtype,
                                        image_sizes, transparency_strides);
  }
  take_flags(name, running, flags, target, memory, params);
  memory.require_apart();
  run_on(target, params, &cpu::crop_gradient, FVFAST_CUDA_LAUNCHER(crop_gradient));
}

}  // namespace

void bind_crop(py::module_& module) {
  module.def("crop_resize", &crop_resize, py::kw_only(), py::arg("images"), py::arg("boxes"),
             py::arg("out"), py::arg("image_dtype"), py::arg("box_dtype"), py::arg("out_dtype"),
             py::arg("sizes"), py::arg("image_strides"), py::arg("out_strides"),
             py::arg("identities"), py::arg("std"), py::arg("uniform_width"), py::arg("seed"),
             py::arg("step"), py::arg("counter"), py::arg("std_table"),
             py::arg("uniform_width_table"), py::arg("identity_table"), py::arg("target"),
             "Crops of images, with noise. Sizes are "
             "(batch, crops, channels, image_height, image_width, height, width).");
  module.def("crop_gradient_scratch", &crop_gradient_scratch, py::kw_only(), py::arg("image_dtype"),
             py::arg("sizes"), py::arg("target"), "Bytes of scratch for crop_gradient.");
  module.def("crop_gradient", &crop_gradient, py::kw_only(), py::arg("gradient"), py::arg("boxes"),
             py::arg("image_gradient"), py::arg("transparency"), py::arg("scratch"),
             py::arg("gradient_dtype"), py::arg("image_dtype"), py::arg("box_dtype"),
             py::arg("sizes"), py::arg("gradient_strides"), py::arg("transparency_strides"),
             py::arg("running"), py::arg("flags"), py::arg("target"),
             "The gradient of crop_resize with respect to the images; adds its absolute value to "
             "transparency, unless that is (0, 0), of the images that are running. The size of "
             "scratch is in bytes. running and flags may be (0, 0), and must be on the CPU.");
}

}  // namespace fvfast
