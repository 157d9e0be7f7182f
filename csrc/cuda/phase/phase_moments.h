// Sums of a phase, where no update has made them, and how they standardize it.
#pragma once

#include "cuda/block_sum.h"
#include "cuda/phase/spectrum.h"
#include "cuda/warp_sum.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kSumThreads = 256;

// Sums of a phase and of its squares, counted from its first element, so that a large mean costs no
// accuracy. One block for each part.
template <typename Real>
__global__ void __launch_bounds__(kSumThreads)
    phase_sums_kernel(const Real* phase, int64_t bins, int64_t first_image, double* sums) {
  __shared__ double memory[2 * kMaxWarps];
  const int64_t image = first_image + blockIdx.y;
  const Real* values = phase + image * bins;
  const double origin = static_cast<double>(values[0]);
  const auto [begin, end] = bins_of_part(bins, blockIdx.x);
  double* const out = sums + 2 * (image * kUpdateParts + blockIdx.x);
  if (begin == end) {  // fewer bins than parts
    if (threadIdx.x < 2) out[threadIdx.x] = 0;
    return;
  }
  double totals[2] = {0, 0};
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const double value = static_cast<double>(values[i]) - origin;
    totals[0] += value;
    totals[1] += value * value;
  }
  first_thread_sum(totals, memory);
  if (threadIdx.x == 0) {
    out[0] = totals[0];
    out[1] = totals[1];
  }
}

struct PhaseMoments {
  double mean, deviation;
};

// Of the sums of `parts` parts, counted from `origin`, in every thread of the warp that calls this.
__device__ inline PhaseMoments phase_moments(const double* sums, int64_t parts, double origin,
                                             int64_t bins) {
  // Even threads add up the phases and odd ones their squares, so that neighbors read neighbors.
  double own = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x % kWarp; i < 2 * parts; i += kWarp) own += sums[i];
#pragma unroll
  for (int distance = kWarp / 2; distance > 1; distance /= 2) {
    own += __shfl_xor_sync(kAllLanes, own, distance);
  }
  const double count = static_cast<double>(bins);
  const double mean = __shfl_sync(kAllLanes, own, 0) / count;
  const double variance = __shfl_sync(kAllLanes, own, 1) / count - mean * mean;
  return {origin + mean, sqrt(variance < 0 ? 0 : variance)};  // NaN passes
}

}  // namespace fvfast::cuda
