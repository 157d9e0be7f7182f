// The binding of the end of a step, which only CUDA has: on the CPU, PyTorch ends a step.
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bind.h"
#include "bindings/box_checks.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/phase_checks.h"
#include "bindings/tables.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {

#ifdef FVFAST_WITH_CUDA
namespace {

using CudaTarget = std::pair<int, uintptr_t>;

int64_t positive_of(const std::string& function, const std::string& argument, int64_t value) {
  if (value < 1 || value > kMaxElements) {
    reject(function, argument, "an integer in [1, 2^48]", std::to_string(value));
  }
  return value;
}

// What a step leaves behind of each image.
void take_record(const Buffer& running, const Buffer& ended_in, const Buffer& by_update,
                 const Buffer& has_gradient, const Buffer& recent_scores, const Buffer& counter,
                 Memory& memory, StepEndParams& params) {
  const int64_t images = params.images;
  params.running = memory.writes_flags("running", running, images);
  params.ended_in = memory.writes_integers("ended_in", ended_in, images);
  params.by_update = memory.writes_flags("by_update", by_update, images);
  params.has_gradient = memory.writes_flags("has_gradient", has_gradient, images);
  params.recent_scores = static_cast<float*>(
      memory.writes("recent_scores", recent_scores, DType::kFloat32, images * params.recent));
  params.counter = memory.writes_integers("counter", counter, 1);
}

// The boxes of the next step, if there are any.
void take_next_boxes(const std::string& name, const Buffer& boxes, int64_t crops,
                     const TableArgument& box_size_table, const TableArgument& identity_table,
                     const TargetArgument& target, Memory& memory, StepEndParams& params) {
  BoxParams& next = params.boxes;
  next.images = params.images;
  if (crops < 0 || crops > int64_t{1} << 32) {
    reject(name, "crops", "an integer in [0, 2^32]", std::to_string(crops));
  }
  if (check_sizes(name, "crops", {params.images, crops, 4})) return;
  next.crops = crops;
  if (!box_size_table.has_value()) reject(name, "box_size_table", "a table", "none");
  if (!identity_table.has_value()) reject(name, "identity_table", "a table", "none");
  take_identities(name, {}, identity_table, params.images, target, memory, next);
  next.box_size_table =
      table_of(name, "box_size_table", box_size_table, 1, params.counter, target, memory);
  next.boxes = static_cast<float*>(
      memory.writes("boxes", boxes, DType::kFloat32, 4 * params.images * crops));
}

void end_step(const Buffer& scores, const Buffer& flags, const Buffer& phase,
              const Buffer& next_phase, const Buffer& sums, int64_t sum_parts,
              const Buffer& running, const Buffer& ended_in, const Buffer& by_update,
              const Buffer& has_gradient, const Buffer& recent_scores, int64_t recent,
              const Buffer& counter, int64_t patience, const std::string& dtype,
              const std::vector<int64_t>& sizes, const Buffer& boxes, int64_t crops,
              const std::string& shape, double spread, double center_spread, double smallest,
              double largest, uint64_t seed, const TableArgument& box_size_table,
              const TableArgument& identity_table, const CudaTarget& target) {
  const std::string name = "end_step";
  StepEndParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  check_phase_sizes(name, sizes, 2, "(images, elements of each)");
  params.images = sizes[0];
  params.elements = sizes[1];
  params.sum_parts = positive_of(name, "sum_parts", sum_parts);
  params.recent = positive_of(name, "recent", recent);
  if (patience < 0) reject(name, "patience", "an integer >= 0", std::to_string(patience));
  params.patience = patience;
  check_sizes(name, "sum_parts", {params.images, sum_parts, 2});
  check_sizes(name, "recent", {params.images, recent});
  set_distribution(name, 0, shape, spread, center_spread, smallest, largest, params.boxes);
  params.boxes.seed = seed;
  if (params.images == 0) reject(name, "sizes", "an image", "none");
  Memory memory(name);
  const int64_t elements = params.images * params.elements;
  params.scores =
      static_cast<const float*>(memory.reads("scores", scores, DType::kFloat32, params.images));
  params.flags = memory.writes_words("flags", flags, params.images);
  params.phase = memory.reads("phase", phase, params.dtype, elements);
  params.next_phase = memory.writes("next_phase", next_phase, params.dtype, elements);
  params.sums = static_cast<double*>(
      memory.writes("sums", sums, DType::kFloat64, 2 * sum_parts * params.images));
  take_record(running, ended_in, by_update, has_gradient, recent_scores, counter, memory, params);
  take_next_boxes(name, boxes, crops, box_size_table, identity_table, target, memory, params);
  memory.require_apart();
  py::gil_scoped_release unlocked;
  cuda::end_step(params, target_of(target));
}

}  // namespace

void bind_step_end(py::module_& module) {
  module.def("end_step", &end_step, py::kw_only(), py::arg("scores"), py::arg("flags"),
             py::arg("phase"), py::arg("next_phase"), py::arg("sums"), py::arg("sum_parts"),
             py::arg("running"), py::arg("ended_in"), py::arg("by_update"), py::arg("has_gradient"),
             py::arg("recent_scores"), py::arg("recent"), py::arg("counter"), py::arg("patience"),
             py::arg("dtype"), py::arg("sizes"), py::arg("boxes"), py::arg("crops"),
             py::arg("shape"), py::arg("spread"), py::arg("center_spread"), py::arg("smallest"),
             py::arg("largest"), py::arg("seed"), py::arg("box_size_table"),
             py::arg("identity_table"), py::arg("target"),
             "Which images have ended in a step, their scores, and the boxes of the next step.");
}

#else

void bind_step_end(py::module_&) {}

#endif

}  // namespace fvfast
