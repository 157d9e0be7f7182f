// How an image is cut into tiles, each of which a block makes, and what a tile reads of a level.
#pragma once

#include <cstdint>

#include "common/pyramid.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kPyramidRows = 16, kPyramidColumns = 64;
// What tiles of these sizes read of all coarse levels: see most_read(). A level has at most half as
// many rows as the next one, rounded up.
constexpr int kMostElementsRead = 10 * 34 + 7 * 19 + 5 * 11 + 4 * 7 + 4 * 5 + 4 * 4 * 10;
constexpr int kMostRowsRead = 10, kMostColumnsRead = 34;  // of the finest of them

// Sizes that all tiles share: an argument of the kernels.
struct PyramidShape {
  PyramidLevels levels;
  PyramidParts parts;
  int coarse;      // levels that are resampled
  bool has_image;  // whether the level of the image's size takes part
};

inline PyramidShape shape_of(const PyramidSizes& sizes) {
  PyramidShape shape{};
  shape.levels = levels_of(sizes.height, sizes.width);
  shape.parts = parts_of(shape.levels, sizes, kPyramidRows, kPyramidColumns);
  shape.coarse = coarse_levels(shape.levels, sizes);
  shape.has_image = sizes.levels == shape.levels.count;
  return shape;
}

// The tile of a block.
struct PyramidTile {
  int64_t group;      // of planes that are mixed
  int index;          // among the tiles of an image
  int row, column;    // of its first pixel
  int rows, columns;  // of it that lie inside the image

  __device__ PyramidTile(const PyramidShape& shape, const PyramidSizes& sizes, int64_t first_group)
      : group(first_group + blockIdx.y), index(static_cast<int>(blockIdx.x)) {
    const int across = static_cast<int>(shape.parts.across);
    row = index / across * kPyramidRows;
    column = index % across * kPyramidColumns;
    rows = min(kPyramidRows, static_cast<int>(sizes.height) - row);
    columns = min(kPyramidColumns, static_cast<int>(sizes.width) - column);
  }
};

// What the pixels of a tile read of one axis of a level, counted from the first element that any of
// them reads. Pixels beyond the image are as its last one.
template <typename Real>
struct LevelPlace {
  int16_t lower, upper;
  Real share;
};

// Where a tile begins in a level, and how much it reads of it.
struct TileReach {
  int row, column;
  int rows, columns;

  __device__ TileReach(const PyramidLevel& level, const PyramidSizes& sizes,
                       const PyramidTile& tile) {
    const LevelAxis down(level.height, sizes.height), across(level.width, sizes.width);
    row = down.sample<float>(tile.row).lower;
    rows = down.sample<float>(tile.row + tile.rows - 1).upper + 1 - row;
    column = across.sample<float>(tile.column).lower;
    columns = across.sample<float>(tile.column + tile.columns - 1).upper + 1 - column;
  }
};

// Makes the places of the rows of a tile, or of its columns, with all threads of the block: `count`
// pixels, of which those from `begin` on that are `inside` the image count from `first`.
template <int count, typename Real>
__device__ __forceinline__ void place_pixels(const LevelAxis& axis, int begin, int inside,
                                             int first, LevelPlace<Real> (&places)[count]) {
  const int threads = static_cast<int>(blockDim.x);
  for (int pixel = static_cast<int>(threadIdx.x); pixel < count; pixel += threads) {
    const LevelSample<Real> sample = axis.sample<Real>(begin + min(pixel, inside - 1));
    places[pixel] = {static_cast<int16_t>(sample.lower - first),
                     static_cast<int16_t>(sample.upper - first), sample.share};
  }
}

}  // namespace fvfast::cuda
