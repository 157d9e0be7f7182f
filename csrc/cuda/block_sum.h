// Sums over the threads of a block, whose order depends on the number of threads alone.
#pragma once

#include "cuda/launch.h"

namespace fvfast::cuda {

constexpr int kMaxWarps = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Replaces each of the `count` numbers by its sum over the block, in every thread. `memory` holds
// count * kMaxWarps numbers, which may be used again after the next barrier. The number of threads
// is a multiple of 32.
template <int count>
__device__ __forceinline__ void block_sum(double (&numbers)[count], double* memory) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  __syncthreads();  // the memory may still be read
#pragma unroll
  for (int i = 0; i < count; ++i) {
#pragma unroll
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      numbers[i] += __shfl_down_sync(kAllLanes, numbers[i], distance);
    }
    if (lane == 0) memory[i * kMaxWarps + warp] = numbers[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < count; ++i) {
    double sum = 0;
    for (int w = 0; w < warps; ++w) sum += memory[i * kMaxWarps + w];
    numbers[i] = sum;
  }
}

}  // namespace fvfast::cuda
