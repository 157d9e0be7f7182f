// The binding of Winograd convolutions.
#include <pybind11/stl.h>

#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "common/division.h"
#include "ops.h"

namespace fvfast {
namespace {

using Sizes = std::vector<int64_t>;

void winograd_convolution(const Buffer& images, const Buffer& weights, const Buffer& bias,
                          const Buffer& term, const Buffer& out, const Sizes& sizes,
                          int64_t outputs, const std::pair<int64_t, int64_t>& padding,
                          const std::optional<std::pair<float, float>>& limits) {
  const std::string name = "winograd_convolution";
  if (sizes.size() != 4) {
    reject(name, "sizes", "4 sizes (batch, height, width, inputs)", std::to_string(sizes.size()));
  }
  WinogradParams params{};
  const bool no_images = check_sizes(name, "sizes", sizes);
  if (outputs < 0) reject(name, "outputs", "a number >= 0", std::to_string(outputs));
  if (outputs > kMaxElements) reject(name, "outputs", "at most 2^48", "more");
  params.batch = sizes[0];
  params.height = sizes[1];
  params.width = sizes[2];
  params.inputs = sizes[3];
  params.outputs = outputs;
  if (params.inputs < 1) reject(name, "sizes", "at least one input", "none");
  params.pad_y = padding.first;
  params.pad_x = padding.second;
  for (const int64_t pad : {params.pad_y, params.pad_x}) {
    if (pad < 0 || pad > 2) reject(name, "padding", "0 to 2", std::to_string(pad));
  }
  params.clamps = limits.has_value();
  if (params.clamps) {
    params.lowest = limits->first;
    params.highest = limits->second;
    if (!(params.lowest <= params.highest)) {
      reject(name, "limits", "a lower limit and an upper one",
             std::to_string(params.lowest) + " and " + std::to_string(params.highest));
    }
  }
  if (params.out_height() < 1 || params.out_width() < 1) {
    reject(name, "sizes", "images of at least 3 x 3 pixels, with their padding",
           std::to_string(params.height) + " x " + std::to_string(params.width));
  }
  const Sizes out_sizes = {params.batch, params.out_height(), params.out_width(), outputs};
  const int64_t panels = divided_up(outputs, kWinogradPanel);
  const Sizes weight_sizes = {panels, kWinogradPoints, params.inputs, kWinogradPanel};
  check_sizes(name, "outputs", weight_sizes);
  if (check_sizes(name, "outputs", out_sizes)) return;

  const auto count = [](const Sizes& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  };
  Memory memory(name);
  const auto input = [&](const char* argument, const Buffer& buffer, int64_t elements) {
    return static_cast<const float*>(memory.reads(argument, buffer, DType::kFloat32, elements));
  };
  // Images without pixels have an output all the same, which is made of padding.
  params.images = no_images ? nullptr : input("images", images, count(sizes));
  params.weights = input("weights", weights, count(weight_sizes));
  if (bias.first != 0) params.bias = input("bias", bias, outputs);
  if (term.first != 0) params.term = input("term", term, count(out_sizes));
  params.out = static_cast<float*>(memory.writes("out", out, DType::kFloat32, count(out_sizes)));
  memory.require_apart();
  py::gil_scoped_release unlocked;
  cpu::winograd_convolution(params);
}

}  // namespace

void bind_winograd(py::module_& module) {
  module.attr("winograd_panel") = kWinogradPanel;
  module.def("winograd_convolution", &winograd_convolution, py::kw_only(), py::arg("images"),
             py::arg("weights"), py::arg("bias"), py::arg("term"), py::arg("out"), py::arg("sizes"),
             py::arg("outputs"), py::arg("padding"), py::arg("limits"),
             "A convolution of 3 x 3 taps on the CPU. Sizes are (batch, height, width, inputs); "
             "bias and term may be (0, 0).");
}

}  // namespace fvfast
