// Sums over the threads of one warp, or of a block by way of its warps.
#pragma once

#include "cuda/block_sum.h"

namespace fvfast::cuda {

// The sum of a number over the warp, in every thread of it, added up in a fixed order.
__device__ __forceinline__ double warp_sum(double number) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    number += __shfl_xor_sync(kAllLanes, number, distance);
  }
  return number;
}

// The sum of numbers[0] to numbers[count - 1], in every thread of the warp, with four loads at a
// time.
__device__ __forceinline__ double warp_sum_of(const double* numbers, int64_t count) {
  double sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x % kWarp; i < count; i += kWarp) sum += numbers[i];
  return warp_sum(sum);
}

// Replaces each of the `count` numbers of the first thread by its sum over the block; those of
// other threads are lost. `memory` holds count * kMaxWarps numbers, which may be used again after
// the next barrier. The number of threads is a multiple of 32.
template <int count>
__device__ __forceinline__ void first_thread_sum(double (&numbers)[count], double* memory) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    numbers[i] = warp_sum(numbers[i]);
    if (lane == 0) memory[i * kMaxWarps + warp] = numbers[i];
  }
  __syncthreads();
  if (warp != 0) return;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    numbers[i] = warp_sum(lane < warps ? memory[i * kMaxWarps + lane] : 0);
  }
}

}  // namespace fvfast::cuda
