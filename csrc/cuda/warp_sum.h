// Sums over the threads of one warp.
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

}  // namespace fvfast::cuda
