// What the tiles of an image share: where its rows and columns lie in the levels of the pyramid.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/pyramid.h"
#include "cpu/crop/resample_row.h"
#include "ops.h"

namespace fvfast::cpu {

// A tile with the levels under it, and all its planes, fits the second cache.
constexpr int kTileRows = 32, kTileColumns = 128;
// Levels that a row of tiles reads from: see most_read(), for levels of half the size and less.
constexpr int kMostRowsRead = 18 + 11 + 7 + 5 + 4 * (kMostLevels - 5);
static_assert(kTileColumns <= kColumns, "the samples of a tile have room");

// A tile of an image.
struct PyramidTile {
  int64_t group;        // of planes that are mixed
  int64_t index;        // among the tiles of an image
  int64_t row, column;  // of its first pixel
  int rows, columns;    // of it that lie inside the image
  int64_t across;       // its place in a row of tiles
};

template <typename Real>
struct PyramidTables {
  PyramidSizes sizes;
  PyramidLevels levels;
  PyramidParts parts;
  int coarse;                           // levels that are resampled
  bool has_image;                       // whether the level of the image's size takes part
  std::vector<LevelSample<Real>> rows;  // (coarse, height)
  std::vector<Samples<Real>> columns;   // (coarse, tiles across)

  explicit PyramidTables(const PyramidSizes& sizes_)
      : sizes(sizes_),
        levels(levels_of(sizes.height, sizes.width)),
        parts(parts_of(levels, sizes, kTileRows, kTileColumns)),
        coarse(coarse_levels(levels, sizes)),
        has_image(sizes.levels == levels.count),
        rows(static_cast<size_t>(coarse * sizes.height)),
        columns(static_cast<size_t>(coarse * parts.across)) {
    for (int index = 0; index < coarse; ++index) {
      place_rows(index);
      place_columns(index);
    }
  }

  FVFAST_HOST_DEVICE const LevelSample<Real>* rows_of(int level, const PyramidTile& tile) const {
    return rows.data() + level * sizes.height + tile.row;
  }
  FVFAST_HOST_DEVICE const Samples<Real>& columns_of(int level, const PyramidTile& tile) const {
    return columns[static_cast<size_t>(level * parts.across + tile.across)];
  }

  FVFAST_HOST_DEVICE PyramidTile tile(int64_t unit) const {
    PyramidTile tile{};
    tile.group = unit / parts.tiles();
    tile.index = unit % parts.tiles();
    tile.across = tile.index % parts.across;
    tile.row = tile.index / parts.across * kTileRows;
    tile.column = tile.across * kTileColumns;
    tile.rows = static_cast<int>(std::min<int64_t>(kTileRows, sizes.height - tile.row));
    tile.columns = static_cast<int>(std::min<int64_t>(kTileColumns, sizes.width - tile.column));
    return tile;
  }

 private:
  void place_rows(int index) {
    const LevelAxis axis(levels.level[index].height, sizes.height);
    LevelSample<Real>* out = rows.data() + index * sizes.height;
    for (int64_t row = 0; row < sizes.height; ++row) out[row] = axis.sample<Real>(row);
  }

  // Columns beyond the image are as its last one, so that all tiles are equally wide.
  void place_columns(int index) {
    const LevelAxis axis(levels.level[index].width, sizes.width);
    for (int64_t across = 0; across < parts.across; ++across) {
      Samples<Real>& samples = columns[static_cast<size_t>(index * parts.across + across)];
      samples.begin = 0;
      samples.end = kTileColumns;
      for (int i = 0; i < kTileColumns; ++i) {
        const int64_t column = std::min(across * kTileColumns + i, sizes.width - 1);
        const LevelSample<Real> sample = axis.sample<Real>(column);
        samples.lower[i] = sample.lower;
        samples.upper[i] = sample.upper;
        samples.share[i] = sample.share;
      }
    }
  }
};

}  // namespace fvfast::cpu
