// What a block does with the sums of a tile: it writes them, adds them to those of other parts, or
// leaves them to the other blocks of its cluster.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/macros.h"
#include "cuda/cluster.h"
#include "cuda/crop/gradient_tile.h"
#include "ops.h"

namespace fvfast::cuda {

template <typename Real>
__device__ __forceinline__ void add_absolute(Real gradient, Real* transparency) {
  const Real absolute = std::fabs(gradient);
  if (std::isfinite(absolute)) *transparency += absolute;
}

// What a value of a gradient says of all of it.
template <typename Real>
__device__ __forceinline__ int flags_of(Real gradient) {
  return (std::isfinite(gradient) ? 0 : kGradientNotFinite) |
         (gradient != 0 ? kGradientNotZero : 0);
}

// Adds what the threads of a block have seen of an image's gradient to its flags. All of them call
// this. Or has no order: the flags are the same in every run.
__device__ __forceinline__ void add_flags(const CropGradientParams& params, int64_t image,
                                          int flags) {
  // Also where there are no flags: to leave here would take a register more.
  const int not_finite = __syncthreads_or(flags & kGradientNotFinite);
  const int not_zero = __syncthreads_or(flags & kGradientNotZero);
  if (threadIdx.x != 0 || threadIdx.y != 0) return;
  const int all = (not_finite ? kGradientNotFinite : 0) | (not_zero ? kGradientNotZero : 0);
  if (all != 0 && params.flags != nullptr) atomicOr(params.flags + image, all);
}

__device__ __forceinline__ bool adds_to_transparency(const CropGradientParams& params,
                                                     int64_t image) {
  return params.transparency != nullptr && (params.running == nullptr || params.running[image]);
}

// Where the transparency of a pixel lies.
template <typename Real>
__device__ __forceinline__ Real* transparency_at(const CropGradientParams& params, int64_t image,
                                                 int64_t channel, int64_t row, int64_t column) {
  return static_cast<Real*>(params.transparency) + image * params.transparency_strides[0] +
         channel * params.transparency_strides[1] + row * params.transparency_strides[2] +
         column * params.transparency_strides[3];
}

// Adds the sums of a part to those of the parts before it, and begins the next part.
template <int kThreads, typename Real>
__device__ __forceinline__ void add_part(bool is_first, int thread, Real (&sums)[2][4],
                                         Real* totals) {
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) {
    Real* total = totals + i * kThreads + thread;
    *total = is_first ? sums[i / 4][i % 4] : *total + sums[i / 4][i % 4];
    sums[i / 4][i % 4] = 0;
  }
}

template <int kThreads, typename Real>
__device__ __forceinline__ void take_back(const Real* totals, int thread, Real (&sums)[2][4]) {
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) sums[i / 4][i % 4] = totals[i * kThreads + thread];
}

// Writes the sums of a thread, `offset` elements from the image's gradient, and adds their absolute
// values to the transparency. Returns their flags.
template <int kGroup, typename Real>
__device__ __forceinline__ int write_pixels(const CropGradientParams& params,
                                            const GradientTile<kGroup>& tile, int channel,
                                            const OwnPixels& own, int64_t offset,
                                            const Real (&sums)[2][4]) {
  int flags = 0;
  const int64_t plane = tile.image * params.channels + tile.first_channel + channel;
  const int first = tile.first_row + 4 * own.half;
  const int rows = static_cast<int>(min(params.image_height - first, int64_t{4}));
  FVFAST_UNROLL
  for (int other = 0; other < 2; ++other) {
    const int x = tile.first_pixel + own.column + other * kWarp;
    if (x >= params.image_width) continue;
    Real* image_gradient = static_cast<Real*>(params.image_gradient) + offset +
                           (plane * params.image_height + first) * params.image_width + x;
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i >= rows) continue;
      image_gradient[i * params.image_width] = sums[other][i];
      flags |= flags_of(sums[other][i]);
    }
    if (!adds_to_transparency(params, tile.image)) continue;
    Real* transparency =
        transparency_at<Real>(params, tile.image, tile.first_channel + channel, first, x);
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < rows) {
        add_absolute(sums[other][i], transparency + i * params.transparency_strides[2]);
      }
    }
  }
  return flags;
}

// A row of a tile that is left to other blocks. Rows 0 to 3 and 4 to 7 lie half of the banks apart.
constexpr int kLeftPitch = kTileColumns + 4;
template <int kGroup>
constexpr int kLeft = kGroup * kTileRows * kLeftPitch;

// Puts the sums of a thread where the other blocks of the cluster find them.
template <typename Real>
__device__ __forceinline__ void leave_sums(int channel, const OwnPixels& own,
                                           const Real (&sums)[2][4], Real* left) {
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int row = channel * kTileRows + 4 * own.half + i % 4;
    left[row * kLeftPitch + own.column + i / 4 * kWarp] = sums[i / 4][i % 4];
  }
}

#if FVFAST_CLUSTERS
// The sum of what the first `parts` blocks of the cluster have left, in order.
template <typename Real>
__device__ __forceinline__ Real sum_of_parts(const Real* left, int parts) {
  Real values[kMostClusterBlocks];
  FVFAST_UNROLL
  for (int part = 0; part < kMostClusterBlocks; ++part) {
    if (part < parts) values[part] = *of_block(left, part);
  }
  Real sum = 0;
  FVFAST_UNROLL
  for (int part = 0; part < kMostClusterBlocks; ++part) {
    if (part < parts) sum = part == 0 ? values[0] : sum + values[part];
  }
  return sum;
}

// Adds up the parts of a tile, and writes them: each block of the cluster has some of the rows.
// `left` is where each block has left its sums. Only the first `parts` blocks have any. Returns
// the flags of what the thread has written.
template <int kGroup, typename Real>
__device__ __forceinline__ int write_rows(const CropGradientParams& params,
                                          const GradientTiling& tiling,
                                          const GradientTile<kGroup>& tile,
                                          const TileThread& thread, const Real* left, int parts) {
  int flags = 0;
  const int64_t channel = tile.first_channel + thread.channel;
  const int64_t plane = tile.image * params.channels + channel;
  const int x = tile.first_pixel + thread.column;
#pragma unroll 1
  for (int row = cluster_rank(); row < kTileRows; row += static_cast<int>(tiling.parts)) {
    const int y = tile.first_row + row;
    if (x >= params.image_width || y >= params.image_height) break;
    const Real sum =
        sum_of_parts(left + (thread.channel * kTileRows + row) * kLeftPitch + thread.column, parts);
    static_cast<Real*>(
        params.image_gradient)[(plane * params.image_height + y) * params.image_width + x] = sum;
    flags |= flags_of(sum);
    if (adds_to_transparency(params, tile.image)) {
      add_absolute(sum, transparency_at<Real>(params, tile.image, channel, y, x));
    }
  }
  return flags;
}
#endif

}  // namespace fvfast::cuda
