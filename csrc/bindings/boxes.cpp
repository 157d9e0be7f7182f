// The binding of drawing boxes.
#include <pybind11/stl.h>

#include <cmath>
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

// A number that float32 holds: a larger one would become infinite on its way into the struct.
float float_argument(const std::string& function, const std::string& argument, double value) {
  const float rounded = static_cast<float>(value);
  if (!std::isfinite(rounded)) {
    reject(function, argument, "a finite float32 number", std::to_string(value));
  }
  return rounded;
}

bool is_normal(const std::string& function, const std::string& shape) {
  if (shape != "normal" && shape != "uniform") {
    reject(function, "shape", "normal or uniform", shape);
  }
  return shape == "normal";
}

void draw_boxes(const Buffer& boxes, int64_t crops, double box_size, const std::string& shape,
                double spread, double center_spread, double smallest, double largest,
                const std::vector<int64_t>& identities, uint64_t seed, int64_t step,
                const Buffer& counter, const TableArgument& box_size_table,
                const TableArgument& identity_table, const TargetArgument& target) {
  const std::string name = "draw_boxes";
  BoxParams params{};
  params.images = image_count(identities, identity_table);
  params.crops = crops;
  // The number of a box is a 32-bit word of the counter.
  if (crops < 0 || crops > int64_t{1} << 32) {
    reject(name, "crops", "an integer in [0, 2^32]", std::to_string(crops));
  }
  const bool empty = check_sizes(name, "crops", {params.images, crops, 4});
  params.normal = is_normal(name, shape);
  params.box_size = float_argument(name, "box_size", box_size);
  params.spread = float_argument(name, "spread", scale_of(name, "spread", spread));
  params.center_spread =
      float_argument(name, "center_spread", scale_of(name, "center_spread", center_spread));
  params.smallest = float_argument(name, "smallest", smallest);
  params.largest = float_argument(name, "largest", largest);
  if (smallest > largest) {
    reject(name, "largest", "a number >= smallest, " + std::to_string(smallest),
           std::to_string(largest));
  }
  params.seed = seed;
  params.step = word_of(name, "step", step);
  Memory memory(name);
  const std::vector<uint32_t> words =
      take_identities(name, identities, identity_table, params.images, target, memory, params);
  params.counter = counter_of(name, counter, target, memory);
  params.box_size_table =
      table_of(name, "box_size_table", box_size_table, 1, params.counter, target, memory);
  if (empty) return;
  params.boxes = static_cast<float*>(
      memory.writes("boxes", boxes, DType::kFloat32, 4 * params.images * crops));
  memory.require_apart();
  run_on(target, params, &cpu::draw_boxes, FVFAST_CUDA_LAUNCHER(draw_boxes));
}

}  // namespace

void bind_boxes(py::module_& module) {
  module.def("draw_boxes", &draw_boxes, py::kw_only(), py::arg("boxes"), py::arg("crops"),
             py::arg("box_size"), py::arg("shape"), py::arg("spread"), py::arg("center_spread"),
             py::arg("smallest"), py::arg("largest"), py::arg("identities"), py::arg("seed"),
             py::arg("step"), py::arg("counter"), py::arg("box_size_table"),
             py::arg("identity_table"), py::arg("target"),
             "Random boxes, float32 (images, crops, 4) as y1, x1, y2, x2, one image per identity.");
}

}  // namespace fvfast
