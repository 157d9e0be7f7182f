// The binding of drawing boxes.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/bind.h"
#include "bindings/box_checks.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/tables.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {
namespace {

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
  set_distribution(name, box_size, shape, spread, center_spread, smallest, largest, params);
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
