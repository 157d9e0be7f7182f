// Sums over columns, in parts of a few neighbors each.
#pragma once

#include <cstdint>

#include "cuda/block_sum.h"
#include "cuda/phase/tiling.h"

namespace fvfast::cuda {

// A block has at most so many pairs of a warp and a part: see put_column_sums.
constexpr int kMostPartsOfWarps = 64;

// How the lanes of a block are cut into parts.
struct ColumnParts {
  int columns;   // of a part
  int in_block;  // parts

  __device__ __forceinline__ explicit ColumnParts(int lanes)
      : columns(lanes < kPartColumns ? lanes : kPartColumns), in_block(lanes / columns) {}
};

// Adds up each of the `count` numbers over the threads of a warp that share a part. After the next
// barrier, column_sum adds up those of the warps. `memory` holds count * kMostPartsOfWarps numbers.
//
// The order is that of a binary tree: of the columns of a part, and then of the threads of a
// column. It does not depend on how many parts a block has.
template <int count>
__device__ __forceinline__ void put_column_sums(double (&numbers)[count], int lanes,
                                                double* memory) {
  const ColumnParts parts(lanes);
  const int in_warp = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    for (int distance = 1; distance < parts.columns; distance *= 2) {
      numbers[i] += __shfl_down_sync(kAllLanes, numbers[i], distance);
    }
    for (int distance = lanes; distance < kWarp; distance *= 2) {
      numbers[i] += __shfl_down_sync(kAllLanes, numbers[i], distance);
    }
    if (in_warp < lanes && in_warp % parts.columns == 0) {
      memory[(warp * count + i) * parts.in_block + in_warp / parts.columns] = numbers[i];
    }
  }
}

// The sum that this thread is to write, of which PartOfBlock says what it is; 0 in threads without.
template <int count>
__device__ __forceinline__ double column_sum(int lanes, const double* memory) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int thread = static_cast<int>(threadIdx.x);
  const int results = count * ColumnParts(lanes).in_block;
  if (thread >= results) return 0;
  constexpr int kWarps = kTransformThreads / kWarp;
  double sums[kWarps];
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sums[w] = w < warps ? memory[w * results + thread] : 0;
#pragma unroll
  for (int distance = 1; distance < kWarps; distance *= 2) {
#pragma unroll
    for (int w = 0; w + distance < kWarps; w += 2 * distance) sums[w] += sums[w + distance];
  }
  return sums[0];
}

// What the result of column_sum is.
struct PartOfBlock {
  int number;     // which of the numbers
  int64_t parts;  // of a channel
  int64_t part;
  bool valid;  // whether the channel has such a part

  __device__ __forceinline__ PartOfBlock(int64_t half, int tile, int lanes) {
    const ColumnParts of(lanes);
    const int thread = static_cast<int>(threadIdx.x);
    number = thread / of.in_block;
    parts = (half + of.columns - 1) / of.columns;
    part = int64_t{tile} * of.in_block + thread % of.in_block;
    valid = part < parts;
  }
};

}  // namespace fvfast::cuda
