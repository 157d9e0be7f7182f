// The image of a pyramid. A tile of the image is made at once: the few rows of each level that it
// reads are resampled along x, then blended along y and added up, and the sums of all planes are
// mixed. So each pixel is written once, and no level is enlarged in memory.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/macros.h"
#include "common/pyramid.h"
#include "cpu/colors.h"
#include "cpu/crop/resample_row.h"
#include "cpu/parallel.h"
#include "cpu/pyramid/tables.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

// One row of a tile.
template <typename Real>
using TileRow = Real[kTileColumns];

template <typename Real, int planes>
struct Mixing {
  Real mix[planes][planes];
  Real low, width;

  FVFAST_HOST_DEVICE explicit Mixing(const PyramidImageParams& params)
      : low(static_cast<Real>(params.low)), width(static_cast<Real>(params.high - params.low)) {
    for (int i = 0; i < planes; ++i) {
      for (int j = 0; j < planes; ++j) {
        mix[i][j] =
            static_cast<Real>(planes == 3 ? params.gain * params.colors[i][j] : params.gain);
      }
    }
  }
};

// The rows of all coarse levels under a tile, as wide as the tile.
template <typename Real>
struct WideRows {
  alignas(64) TileRow<Real> values[kMostRowsRead];
  int32_t begin[kMostLevels];  // the first row of each level
  const TileRow<Real>* first[kMostLevels];

  FVFAST_HOST_DEVICE const Real* row(int level, int32_t index) const {
    return first[level][index - begin[level]];
  }
};

template <SimdLevel level, typename Real>
FVFAST_HOST_DEVICE void widen(const PyramidTables<Real>& tables, const PyramidTile& tile,
                              const Real* pyramid, WideRows<Real>& wide) {
  TileRow<Real>* next = wide.values;
  for (int index = 0; index < tables.coarse; ++index) {
    const PyramidLevel& from = tables.levels.level[index];
    const LevelSample<Real>* rows = tables.rows_of(index, tile);
    const int32_t begin = rows[0].lower, end = rows[tile.rows - 1].upper + 1;
    wide.begin[index] = begin;
    wide.first[index] = next;
    for (int32_t row = begin; row < end; ++row) {
      resample_row<level>(pyramid + from.offset + int64_t{row} * from.width, from.width, 1,
                          tables.columns_of(index, tile), *next++);
    }
  }
}

// The sum of all levels in one row of a tile.
template <typename Real>
FVFAST_HOST_DEVICE void add_levels(const PyramidTables<Real>& tables, const PyramidTile& tile,
                                   const Real* pyramid, const WideRows<Real>& wide, int row,
                                   Real* __restrict sum) {
  const Real* own = pyramid + tables.levels.level[tables.levels.count - 1].offset +
                    (tile.row + row) * tables.sizes.width + tile.column;
  if (tables.has_image && tile.columns == kTileColumns) {  // a constant count: whole vectors
    for (int x = 0; x < kTileColumns; ++x) sum[x] = own[x];
  } else {
    const int columns = tables.has_image ? tile.columns : 0;
    std::copy(own, own + columns, sum);
    std::fill(sum + columns, sum + kTileColumns, Real(0));
  }
  for (int index = 0; index < tables.coarse; ++index) {
    const LevelSample<Real> sample = tables.rows_of(index, tile)[row];
    const Real* __restrict lower = wide.row(index, sample.lower);
    const Real* __restrict upper = wide.row(index, sample.upper);
    for (int x = 0; x < kTileColumns; ++x)
      sum[x] += lower[x] + sample.share * (upper[x] - lower[x]);
  }
}

template <typename Real, int planes>
struct ImageTiles {
  template <SimdLevel level>
  static FVFAST_HOST_DEVICE void run(const PyramidImageParams& params,
                                     const PyramidTables<Real>& tables, int64_t begin,
                                     int64_t end) {
    const Mixing<Real, planes> mixing(params);
    const PyramidSizes& sizes = tables.sizes;
    WideRows<Real> wide[planes];
    for (int64_t unit = begin; unit < end; ++unit) {
      const PyramidTile tile = tables.tile(unit);
      const Real* pyramid =
          static_cast<const Real*>(params.pyramid) + tile.group * planes * tables.levels.elements;
      for (int i = 0; i < planes; ++i) {
        widen<level>(tables, tile, pyramid + i * tables.levels.elements, wide[i]);
      }
      Real* image = static_cast<Real*>(params.image) + tile.group * planes * sizes.area() +
                    tile.row * sizes.width + tile.column;
      for (int row = 0; row < tile.rows; ++row, image += sizes.width) {
        alignas(64) Real sums[planes][kTileColumns];
        for (int i = 0; i < planes; ++i) {
          add_levels(tables, tile, pyramid + i * tables.levels.elements, wide[i], row, sums[i]);
        }
        if (tile.columns == kTileColumns) {  // a constant count: whole vectors
          mix_into_range(sums, mixing.mix, mixing.low, mixing.width, image, sizes.area(),
                         kTileColumns);
        } else {
          mix_into_range(sums, mixing.mix, mixing.low, mixing.width, image, sizes.area(),
                         tile.columns);
        }
      }
    }
  }
};

template <typename Real, int planes>
void run_on_tiles(const PyramidImageParams& params) {
  const PyramidTables<Real> tables(params.sizes);
  const auto kernel = select_version<ImageTiles<Real, planes>>();
  parallel_for(params.sizes.planes() / planes * tables.parts.tiles(), 1,
               [&](int64_t begin, int64_t end) { kernel(params, tables, begin, end); });
}

}  // namespace

void pyramid_image(const PyramidImageParams& params) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? run_on_tiles<Real, 3>(params) : run_on_tiles<Real, 1>(params);
  });
}

}  // namespace fvfast::cpu
