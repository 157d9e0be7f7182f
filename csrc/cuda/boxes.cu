// Drawing boxes: one thread each.
//
// Compiled without fused multiply-adds, so that the boxes have the same bits as those that the CPU
// draws.
#include "common/boxes.h"
#include "common/division.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/store_box.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kBoxThreads = 128;

__global__ void __launch_bounds__(kBoxThreads)
    boxes_kernel(const BoxParams params, const Identities identities) {
  const int64_t crop = int64_t{blockIdx.x} * kBoxThreads + threadIdx.x;
  if (crop >= params.crops) return;
  const uint32_t step = current_step(params.step, params.counter);
  float box[4];
  const auto box_size =
      static_cast<float>(current_number(params.box_size, params.box_size_table, params.counter));
  draw_box(params, box_size, identities.of(blockIdx.y), step, crop, box);
  store_box(box, params.boxes + 4 * (int64_t{blockIdx.y} * params.crops + crop));
}

void draw_boxes(const BoxParams& params, const Target& target) {
  if (params.crops == 0) return;
  const DeviceGuard guard(target, "draw_boxes");
  const unsigned blocks = grid_x(divided_up(params.crops, kBoxThreads), "draw_boxes");
  for (int64_t first = 0; first < params.images; first += kIdentitiesPerLaunch) {
    const int64_t count = std::min<int64_t>(kIdentitiesPerLaunch, params.images - first);
    BoxParams part = params;
    part.boxes += 4 * first * params.crops;
    boxes_kernel<<<dim3(blocks, static_cast<unsigned>(count)), kBoxThreads, 0, stream_of(target)>>>(
        part, identities_from(params, first, count));
    check_launch("draw_boxes");
  }
}

}  // namespace fvfast::cuda
