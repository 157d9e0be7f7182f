// The binding of the epilogue of a convolution.
#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {
namespace {

void convolution_epilogue(const Buffer& output, const Buffer& bias, const Buffer& term,
                          const std::string& dtype, const std::vector<int64_t>& sizes,
                          const std::optional<std::pair<double, double>>& limits,
                          const TargetArgument& target) {
  const std::string name = "convolution_epilogue";
  if (sizes.size() != 3) {
    reject(name, "sizes", "3 sizes (outer, channels, inner)", std::to_string(sizes.size()));
  }
  ConvolutionEpilogueParams params{};
  params.dtype = dtype_of(name, "dtype", dtype);
  const bool empty = check_sizes(name, "sizes", sizes);
  params.outer = sizes[0];
  params.channels = sizes[1];
  params.inner = sizes[2];
  constexpr double kNone = std::numeric_limits<double>::infinity();
  params.lowest = limits ? limits->first : -kNone;
  params.highest = limits ? limits->second : kNone;
  if (!(params.lowest <= params.highest)) {
    reject(name, "limits", "a lower limit and an upper one",
           std::to_string(params.lowest) + " and " + std::to_string(params.highest));
  }
  if (empty) return;
  Memory memory(name);
  params.output = memory.writes("output", output, params.dtype, params.elements());
  if (bias.first != 0) params.bias = memory.reads("bias", bias, params.dtype, params.channels);
  if (term.first != 0) params.term = memory.reads("term", term, params.dtype, params.elements());
  memory.require_apart();
  run_on(target, params, &cpu::convolution_epilogue, FVFAST_CUDA_LAUNCHER(convolution_epilogue));
}

}  // namespace

void bind_convolution_epilogue(py::module_& module) {
  module.def("convolution_epilogue", &convolution_epilogue, py::kw_only(), py::arg("output"),
             py::arg("bias"), py::arg("term"), py::arg("dtype"), py::arg("sizes"),
             py::arg("limits"), py::arg("target"),
             "output = clamp(output + bias + term) in place. Sizes are (outer, channels, inner); "
             "bias and term may be (0, 0).");
}

}  // namespace fvfast
