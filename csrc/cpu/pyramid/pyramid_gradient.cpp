// The gradient of a pyramid, from that of its image. Each tile of the image makes the gradient of
// its sums, which is that of the level of the image's size, and a part of the gradient of each
// other level: blended along y, then gathered along x. Then the parts are added up in order. So
// threads share nothing, and the bits are the same for any number of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/dispatch.h"
#include "common/macros.h"
#include "common/pyramid.h"
#include "cpu/colors.h"
#include "cpu/parallel.h"
#include "cpu/pyramid/column_readers.h"
#include "cpu/pyramid/tables.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int64_t kGrain = 64;  // rows of levels worth a thread

template <typename Real, int planes>
struct Unmixing {
  Real mix[planes][planes];  // colors, divided by the width of the range
  Real low, high;

  FVFAST_HOST_DEVICE explicit Unmixing(const PyramidGradientParams& params)
      : low(static_cast<Real>(params.low)), high(static_cast<Real>(params.high)) {
    const double scale = params.gain / (params.high - params.low);
    for (int i = 0; i < planes; ++i) {
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? scale * params.colors[i][j] : scale);
      }
    }
  }
};

template <typename Real>
using TileValues = Real[kTileRows][kTileColumns];

// The gradient of the sums of all planes in a tile.
template <typename Real, int planes>
FVFAST_HOST_DEVICE void unmix_tile(const PyramidGradientParams& params,
                                   const Unmixing<Real, planes>& unmixing, const PyramidTile& tile,
                                   TileValues<Real> (&values)[planes]) {
  const int64_t area = params.sizes.area(), width = params.sizes.width;
  const int64_t offset = tile.group * planes * area + tile.row * width + tile.column;
  const Real* gradient = static_cast<const Real*>(params.gradient) + offset;
  const Real* image = static_cast<const Real*>(params.image) + offset;
  for (int row = 0; row < tile.rows; ++row, gradient += width, image += width) {
    alignas(64) Real colors[planes][kTileColumns];
    if (tile.columns == kTileColumns) {  // a constant count: whole vectors
      before_range(gradient, image, unmixing.low, unmixing.high, area, colors, kTileColumns);
    } else {
      for (int j = 0; j < planes; ++j) std::fill(colors[j], colors[j] + kTileColumns, Real(0));
      before_range(gradient, image, unmixing.low, unmixing.high, area, colors, tile.columns);
    }
    for (int i = 0; i < planes; ++i) {
      unmix(colors, unmixing.mix[i], values[i][row], kTileColumns);
    }
  }
}

// The part of the gradient of one level that comes from a tile.
template <typename Real>
FVFAST_HOST_DEVICE void gather_level(const PyramidTables<Real>& tables,
                                     const PyramidReaders<Real>& readers, const PyramidTile& tile,
                                     int level, const TileValues<Real>& values, Real* part) {
  const LevelSample<Real>* rows = tables.rows_of(level, tile);
  const LevelReaders& columns = readers.of(level, tile.across);
  const int32_t end = rows[tile.rows - 1].upper + 1;
  int first = 0;  // the first row of the tile that may read the row of the level
  for (int32_t row = rows[0].lower; row < end; ++row, part += tables.parts.columns[level]) {
    alignas(64) Real blended[kTileColumns + kLanes] = {};
    while (rows[first].upper < row) ++first;
    for (int y = first; y < tile.rows && rows[y].lower <= row; ++y) {
      const Real lower = rows[y].lower == row ? 1 - rows[y].share : Real(0);
      const Real upper = rows[y].upper == row ? rows[y].share : Real(0);
      const Real weight = lower + upper;
      for (int x = 0; x < kTileColumns; ++x) blended[x] += weight * values[y][x];
    }
    readers.gather(columns, blended, part);
  }
}

template <typename Real, int planes>
struct GradientTiles {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const PyramidGradientParams& params,
                                     const PyramidTables<Real>& tables,
                                     const PyramidReaders<Real>& readers, int64_t begin,
                                     int64_t end) {
    const Unmixing<Real, planes> unmixing(params);
    alignas(64) TileValues<Real> values[planes];
    for (int64_t unit = begin; unit < end; ++unit) {
      const PyramidTile tile = tables.tile(unit);
      unmix_tile(params, unmixing, tile, values);
      for (int i = 0; i < planes; ++i) {
        const int64_t plane = tile.group * planes + i;
        Real* parts = static_cast<Real*>(params.scratch) +
                      (plane * tables.parts.tiles() + tile.index) * tables.parts.of_tile;
        for (int level = 0; level < tables.coarse; ++level) {
          gather_level(tables, readers, tile, level, values[i], parts + tables.parts.offset[level]);
        }
        if (!tables.has_image) continue;
        Real* out = static_cast<Real*>(params.out) + plane * tables.levels.elements +
                    tables.levels.level[tables.levels.count - 1].offset +
                    tile.row * tables.sizes.width + tile.column;
        for (int row = 0; row < tile.rows; ++row, out += tables.sizes.width) {
          std::copy(values[i][row], values[i][row] + tile.columns, out);
        }
      }
    }
  }
};

// A row of a level of one plane.
struct LevelRow {
  int64_t plane;
  int level;
  int32_t row;

  // Rows are numbered through all levels, and the planes.
  LevelRow(const PyramidLevels& levels, int64_t rows, int64_t number)
      : plane(number / rows), level(0) {
    number %= rows;
    while (number >= levels.level[level].height) number -= levels.level[level++].height;
    row = static_cast<int32_t>(number);
  }
};

template <typename Real>
void add_parts(const PyramidGradientParams& params, const PyramidTables<Real>& tables,
               const PyramidReaders<Real>& readers, const LevelRow& at) {
  const PyramidLevel& level = tables.levels.level[at.level];
  const PyramidParts& parts = tables.parts;
  Real* out = static_cast<Real*>(params.out) + at.plane * tables.levels.elements + level.offset +
              int64_t{at.row} * level.width;
  std::fill(out, out + level.width, Real(0));
  if (at.level >= tables.coarse) return;
  const Real* of_plane = static_cast<const Real*>(params.scratch) +
                         at.plane * parts.tiles() * parts.of_tile + parts.offset[at.level];
  const LevelAxis axis(level.height, tables.sizes.height);
  const LevelSample<Real>* rows = tables.rows.data() + at.level * tables.sizes.height;
  const int64_t last = axis.last_reader(at.row) / kTileRows;
  for (int64_t down = axis.first_reader(at.row) / kTileRows; down <= last; ++down) {
    const int64_t skipped = at.row - rows[down * kTileRows].lower;
    for (int64_t across = 0; across < parts.across; ++across) {
      const LevelReaders& columns = readers.of(at.level, across);
      const Real* part = of_plane + (down * parts.across + across) * parts.of_tile +
                         skipped * parts.columns[at.level];
      for (int32_t i = 0; i < columns.count; ++i) out[columns.first + i] += part[i];
    }
  }
}

template <typename Real, int planes>
void run_on_tiles(const PyramidGradientParams& params) {
  const PyramidTables<Real> tables(params.sizes);
  const PyramidReaders<Real> readers(tables);
  const auto kernel = select_version<GradientTiles<Real, planes>>();
  parallel_for(params.sizes.planes() / planes * tables.parts.tiles(), 1,
               [&](int64_t begin, int64_t end) { kernel(params, tables, readers, begin, end); });

  const PyramidLevels& levels = tables.levels;
  int64_t rows = 0;  // of one plane; the level of the image's size is written above
  for (int index = 0; index < levels.count - (tables.has_image ? 1 : 0); ++index) {
    rows += levels.level[index].height;
  }
  parallel_for(params.sizes.planes() * rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) {
      add_parts(params, tables, readers, LevelRow(levels, rows, number));
    }
  });
}

}  // namespace

void pyramid_gradient(const PyramidGradientParams& params) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? run_on_tiles<Real, 3>(params) : run_on_tiles<Real, 1>(params);
  });
}

int64_t pyramid_gradient_scratch(const PyramidGradientParams& params) {
  const PyramidSizes& sizes = params.sizes;
  const PyramidParts parts =
      parts_of(levels_of(sizes.height, sizes.width), sizes, kTileRows, kTileColumns);
  const int64_t real = params.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
  return sizes.planes() * parts.tiles() * parts.of_tile * real;
}

}  // namespace fvfast::cpu
