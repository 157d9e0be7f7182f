// The end of a step: which images have ended, their scores, the boxes of the next step.
//
// One block, so that all threads have read the number of the step before it changes, without a
// second launch or a count of blocks. A warp has an image, and a thread a box. All threads put an
// image back that its update has spoiled, which happens once in its life.
//
// Compiled without fused multiply-adds, as boxes.cu is.
#include <cmath>
#include <cstdint>
#include <limits>

#include "common/boxes.h"
#include "common/dispatch.h"
#include "cuda/launch.h"
#include "cuda/store_box.h"
#include "cuda/thread.h"
#include "cuda/warp_sum.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kEndThreads = 512;
constexpr float kNoScore = std::numeric_limits<float>::quiet_NaN();

// Whether all sums of an image are finite. The threads of a warp call this together.
__device__ __forceinline__ bool has_finite_sums(const StepEndParams& params, int64_t image,
                                                int lane) {
  const double* sums = params.sums + 2 * params.sum_parts * image;
  bool finite = true;
#pragma unroll 4
  for (int64_t i = lane; i < 2 * params.sum_parts; i += kWarp) finite = finite && isfinite(sums[i]);
  return __all_sync(kAllLanes, finite);
}

// Ends the step of an image. Returns whether its update has ended it. The threads of a warp call
// this together.
__device__ __forceinline__ bool end_image(const StepEndParams& params, int64_t step, int64_t image,
                                          int lane) {
  const bool has_finite_phase = has_finite_sums(params, image, lane);
  const int flags = params.flags[image];
  const float score = params.scores[image];
  const bool ran = params.running[image];
  const bool scored = ran && isfinite(score) && (flags & kGradientNotFinite) == 0;
  const bool runs = scored && has_finite_phase;
  __syncwarp();  // all have read what the first one changes
  if (lane == 0) {
    params.flags[image] = 0;
    params.running[image] = runs;
    if (ran && !runs) params.ended_in[image] = step;
    if (scored && !runs) params.by_update[image] = true;
    if (step < params.patience && (flags & kGradientNotZero) != 0)
      params.has_gradient[image] = true;
    const auto column =
        static_cast<int64_t>(static_cast<uint64_t>(step) % static_cast<uint64_t>(params.recent));
    params.recent_scores[image * params.recent + column] = scored ? score : kNoScore;
  }
  return scored && !runs;
}

// Gives an image the phase back that it had before its update, and makes the sums of it. All
// threads of the block call this.
template <typename Real>
__device__ __forceinline__ void put_back(const StepEndParams& params, int64_t image,
                                         double* memory) {
  const Real* from = static_cast<const Real*>(params.phase) + image * params.elements;
  Real* to = static_cast<Real*>(params.next_phase) + image * params.elements;
  double totals[2] = {0, 0};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < params.elements; i += kEndThreads) {
    const Real p = from[i];
    to[i] = p;
    totals[0] += static_cast<double>(p);
    totals[1] += static_cast<double>(p) * static_cast<double>(p);
  }
  __syncthreads();  // the memory may still be read
  first_thread_sum(totals, memory);
  double* sums = params.sums + 2 * params.sum_parts * image;
  for (int64_t i = threadIdx.x + 2; i < 2 * params.sum_parts; i += kEndThreads) sums[i] = 0;
  if (threadIdx.x == 0) {
    sums[0] = totals[0];
    sums[1] = totals[1];
  }
}

// Draws the boxes of all images for a step.
__device__ __forceinline__ void draw_boxes_of(const BoxParams& params, int64_t step) {
  const int64_t count = params.images * params.crops;
  if (count == 0) return;
  const auto box_size =
      static_cast<float>(current_number(params.box_size, params.box_size_table, &step));
  for (int64_t i = threadIdx.x; i < count; i += kEndThreads) {
    const DeviceIdentities& identities = params.device_identities;
    const auto identity =
        static_cast<uint32_t>(identities.numbers[i / params.crops * identities.stride]);
    float box[4];
    draw_box(params, box_size, identity, static_cast<uint32_t>(step), i % params.crops, box);
    store_box(box, params.boxes + 4 * i);
  }
}

template <typename Real>
__global__ void __launch_bounds__(kEndThreads) step_end_kernel(const StepEndParams params) {
  __shared__ double memory[2 * kMaxWarps];
  __shared__ int some_are_put_back;
  const ThreadPlace place;
  const int64_t step = *params.counter;
  if (place.index == 0) some_are_put_back = 0;
  __syncthreads();
  for (int64_t image = place.warp; image < params.images; image += kEndThreads / kWarp) {
    if (end_image(params, step, image, place.lane) && place.lane == 0) {
      atomicOr(&some_are_put_back, 1);
    }
  }
  draw_boxes_of(params.boxes, step + 1);
  __syncthreads();
  if (place.index == 0) *params.counter = step + 1;
  if (some_are_put_back == 0) return;
  for (int64_t image = 0; image < params.images; ++image) {
    if (params.ended_in[image] == step && params.by_update[image]) {
      put_back<Real>(params, image, memory);
    }
  }
}

void end_step(const StepEndParams& params, const Target& target) {
  const DeviceGuard guard(target, "end_step");
  with_real(params.dtype, [&](auto real) {
    step_end_kernel<decltype(real)><<<1, kEndThreads, 0, stream_of(target)>>>(params);
  });
  check_launch("end_step");
}

}  // namespace fvfast::cuda
