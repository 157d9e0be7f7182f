// How many parts a tile's work is dealt to, and which blocks have them. This depends on sizes and
// on the device alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/division.h"
#include "cuda/cluster.h"
#include "cuda/crop/gradient_tile.h"
#include "ops.h"

namespace fvfast::cuda {

// More parts would be more even, and more to write and to read again.
constexpr int kScratchParts = 4;
// So few tiles do not fill a large GPU with such different work.
constexpr int64_t kFewTiles = 1024;
// With so many tiles, those that take long are a small part of the time; and a block that waits for
// its cluster does nothing, which with clusters of 8 is the case in a third to a half of the time.
constexpr int64_t kManyTiles = 16384;

struct GradientPlan {
  enum class By {
    kTiles,     // a block has a tile, and all its parts
    kScratch,   // a block has a part, and writes its sums to scratch memory
    kClusters,  // a cluster has a tile, and a block of it a part
  };
  By by;
  unsigned parts;

  bool has_block_for_each_part() const { return by != By::kTiles; }
};

inline int64_t tiles_of(const CropGradientParams& params) {
  return divided_up(params.image_width, kTileColumns) * divided_up(params.image_height, kTileRows);
}

inline int64_t pixels_of(const CropGradientParams& params) {
  return params.batch * params.channels * params.image_height * params.image_width;
}

// Channels that a block has: three or four, others each by itself.
template <typename Real>
int64_t group_of(const CropGradientParams& params) {
  const bool together = params.channels == 3 || params.channels == 4;
  return sizeof(Real) == sizeof(float) && together ? params.channels : 1;
}

template <typename Real>
int64_t planes_of(const CropGradientParams& params) {
  return params.batch * params.channels / group_of<Real>(params);
}

// `tiles` of all images. The number of parts does not depend on it, so that an image has the same
// bits alone and in a batch.
inline GradientPlan plan_of(const CropGradientParams& params, int64_t tiles, bool clusters) {
  using By = GradientPlan::By;
  if (!clusters) {
    const bool few = params.crops >= 2 * kScratchParts && tiles <= kFewTiles;
    return {few ? By::kScratch : By::kTiles, kScratchParts};
  }
  unsigned parts = 1;  // a power of two, and not more than crops
  while (parts < kMostClusterBlocks && 2 * parts <= params.crops) parts *= 2;
  return {parts > 1 && tiles <= kManyTiles ? By::kClusters : By::kTiles, parts};
}

}  // namespace fvfast::cuda
