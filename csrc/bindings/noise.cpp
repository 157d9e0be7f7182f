// The binding of noise injection.
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/tables.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {
namespace {

void inject_noise(const Buffer& images, const Buffer& out, const std::string& dtype,
                  const std::vector<int64_t>& sizes, const std::vector<int64_t>& image_strides,
                  const std::vector<int64_t>& out_strides, const std::vector<int64_t>& identities,
                  double std, double uniform_width, uint64_t seed, int64_t step,
                  const Buffer& counter, const TableArgument& std_table,
                  const TableArgument& uniform_width_table, const TableArgument& identity_table,
                  const TargetArgument& target) {
  const std::string name = "inject_noise";
  if (sizes.empty() || sizes.size() > kMaxDims) {
    reject(name, "sizes", "1 to " + std::to_string(kMaxDims) + " dimensions",
           std::to_string(sizes.size()));
  }
  NoiseParams params{};
  params.dtype = dtype_of(name, "dtype", dtype);
  params.dims = static_cast<int>(sizes.size());
  const bool empty = check_sizes(name, "sizes", sizes);
  int64_t elements = 1;  // of one image
  for (size_t d = 0; d < sizes.size(); ++d) {
    params.sizes[d] = sizes[d];
    if (d > 0) elements *= std::max<int64_t>(sizes[d], 1);
  }
  // The element number divided by four is a 32-bit word of the counter.
  if (elements > int64_t{1} << 34) reject(name, "sizes", "at most 2^34 elements per image", "more");
  copy_strides(name, "image_strides", image_strides, sizes.size(), params.image_strides);
  copy_strides(name, "out_strides", out_strides, sizes.size(), params.out_strides);
  Memory memory(name);
  const std::vector<uint32_t> words =
      take_identities(name, identities, identity_table, sizes[0], target, memory, params);
  params.std = scale_of(name, "std", std);
  params.uniform_width = scale_of(name, "uniform_width", uniform_width);
  params.seed = seed;
  params.step = word_of(name, "step", step);
  params.counter = counter_of(name, counter, target, memory);
  take_noise_tables(name, std_table, uniform_width_table, target, memory, params);
  if (empty) return;
  params.out = memory.writes("out", out, params.dtype, sizes, out_strides);
  const bool in_place = images == out && image_strides == out_strides;
  params.images =
      in_place ? params.out : memory.reads("images", images, params.dtype, sizes, image_strides);
  memory.require_apart();
  run_on(target, params, &cpu::inject_noise, FVFAST_CUDA_LAUNCHER(inject_noise));
}

}  // namespace

void bind_noise(py::module_& module) {
  module.def("inject_noise", &inject_noise, py::kw_only(), py::arg("images"), py::arg("out"),
             py::arg("dtype"), py::arg("sizes"), py::arg("image_strides"), py::arg("out_strides"),
             py::arg("identities"), py::arg("std"), py::arg("uniform_width"), py::arg("seed"),
             py::arg("step"), py::arg("counter"), py::arg("std_table"),
             py::arg("uniform_width_table"), py::arg("identity_table"), py::arg("target"),
             "out = images + std * normal + uniform_width * uniform; strides count elements.");
}

}  // namespace fvfast
