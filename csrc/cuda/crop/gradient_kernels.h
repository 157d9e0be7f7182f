// The kernels of the gradient of cropping.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "cuda/crop/gradient_block.h"
#include "cuda/crop/gradient_output.h"
#include "cuda/crop/gradient_plan.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/crop/strips.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kAddThreads = 256;

// A block adds up one part of a tile, or all parts, one after another.
template <typename Real, typename Element, int kGroup>
__global__ void __launch_bounds__(kTileColumns* kGroup, kGradientBlocks<Real, Element, kGroup>)
    crop_gradient_kernel(const CropGradientParams params, const GradientTiling tiling) {
  constexpr int kThreads = kTileColumns * kGroup;
  __shared__ Real totals[8 * kThreads];
  const auto memory = gradient_memory<Real, Element, kGroup, 1>();
  const TileThread thread(kGroup);
  const GradientTile<kGroup> tile(tiling, blockIdx.x % tiling.tiles);

  Real sums[2][4] = {};
  if (thread.index == 0) pose_questions(params, tile.first_row, tile.first_pixel, memory.boxes);
  StripPiece piece(first_part_of(tiling));
  // For each part, all looks. One counter takes one register.
  for (unsigned turn = 0; turn < tiling.block_parts * tiling.looks; ++turn) {
    const unsigned look = turn % tiling.looks;
    __syncthreads();
    if (turn == 0 || tiling.looks > 1) {
      look_at_boxes<false>(params, thread, tile.image, int64_t{look} * kCropsPerLook, memory.boxes);
      __syncthreads();
    }
    piece.begin(memory.boxes);
    add_strips(params, tiling, thread, tile, memory, look, piece, sums);
    if (look + 1 < tiling.looks) continue;
    add_part<kThreads>(turn < tiling.looks, thread.index, sums, totals);
    const int part = first_part_of(tiling) + static_cast<int>(turn / tiling.looks);
    if (part + 1 >= piece.strips_of_all(part, tiling)) break;
    piece = StripPiece(part + 1);
  }
  take_back<kThreads>(totals, thread.index, sums);
  const int flags = write_pixels(params, tile, thread.channel, OwnPixels(thread),
                                 first_part_of(tiling) * tiling.pixels, sums);
  add_flags(params, tile.image, flags);
}

// A cluster has a tile, and each of its blocks one part. They leave their sums in shared memory,
// and each block adds up some rows of the tile.
template <typename Real, typename Element, int kGroup>
__global__ void __launch_bounds__(kTileColumns* kGroup, kGradientBlocks<Real, Element, kGroup>)
    crop_gradient_cluster_kernel([[maybe_unused]] const CropGradientParams params,
                                 [[maybe_unused]] const GradientTiling tiling) {
#if FVFAST_CLUSTERS
  constexpr int kStages = kGradientStages<Real, Element, kGroup>;
  static_assert(kLeft<kGroup> <= kGroup * kBlendedChannel<kGroup> * 4, "blended columns have room");
  const auto memory = gradient_memory<Real, Element, kGroup, kStages>();
  const TileThread thread(kGroup);
  const GradientTile<kGroup> tile(tiling, blockIdx.x / tiling.parts);

  Real sums[2][4] = {};
  if (thread.index == 0) pose_questions(params, tile.first_row, tile.first_pixel, memory.boxes);
  StripPiece piece(cluster_rank());
  for (unsigned look = 0; look < tiling.looks; ++look) {
    __syncthreads();
    look_at_boxes<true>(params, thread, tile.image, int64_t{look} * kCropsPerLook, memory.boxes);
    __syncthreads();
    piece.begin(memory.boxes);
    add_strips(params, tiling, thread, tile, memory, look, piece, sums);
  }
  // The blocks agree on this number, so that either all of them wait for the others or none does.
  const int parts =
      min(piece.strips_of_all(cluster_rank(), tiling), static_cast<int>(tiling.parts));
  if (parts > 0) {
    __syncthreads();  // all have gathered what the sums replace
    leave_sums(thread.channel, OwnPixels(thread), sums, memory.blended);
    arrive_at_cluster();
    wait_for_cluster();
  }
  add_flags(params, tile.image, write_rows(params, tiling, tile, thread, memory.blended, parts));
  if (parts > 0) {
    // Until all have read, no block may end and take its shared memory with it.
    arrive_at_cluster();
    wait_for_cluster();
  }
#endif
}

// Adds up the sums of the parts, (parts, planes, H, W), where each was written by a block.
template <typename Real>
__global__ void __launch_bounds__(kAddThreads)
    add_parts_kernel(const CropGradientParams params, const Real* parts, int64_t pixels,
                     int64_t first_plane) {
  const int64_t plane_pixels = params.image_height * params.image_width;
  const int64_t pixel = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  const int64_t plane = first_plane + blockIdx.y;
  const int64_t image = plane / params.channels;
  int flags = 0;
  if (pixel < plane_pixels) {
    const int64_t at = plane * plane_pixels + pixel;
    Real sum = parts[at];
    FVFAST_UNROLL
    for (int part = 1; part < kScratchParts; ++part) sum += parts[part * pixels + at];
    static_cast<Real*>(params.image_gradient)[at] = sum;
    flags = flags_of(sum);
    if (adds_to_transparency(params, image)) {
      add_absolute(sum,
                   transparency_at<Real>(params, image, plane % params.channels,
                                         pixel / params.image_width, pixel % params.image_width));
    }
  }
  add_flags(params, image, flags);
}

}  // namespace fvfast::cuda
