// The gradient of a pyramid, from that of its image.
//
// A block of pyramid_gradient_kernel has a tile of all planes that share colors. It takes the
// gradient back through range and colors into shared memory, which is the gradient of the level of
// the image's size. For each other level it adds up the tile's part: a thread goes down a column of
// a plane, in order, and then threads gather along the rows. add_pyramid_parts_kernel adds the
// parts of all tiles up, in order.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/pixels.h"
#include "cuda/pyramid/tile.h"
#include "ops.h"

namespace fvfast::cuda {

// A thread for each column of each plane.
template <int planes>
constexpr int kPyramidTileThreads = planes * kPyramidColumns;
constexpr int kPyramidPartThreads = 256;
// Elements with more parts than this have a warp for themselves.
constexpr int64_t kPartsOfThread = 16;

// A place is left free behind every 32 columns, so that threads that are 2, 4, 8 or 16 columns
// apart meet in no bank.
constexpr int kPyramidPitch = kPyramidColumns + kPyramidColumns / kWarp;

__device__ __forceinline__ int padded(int column) { return column + column / kWarp; }

// The pixels of the tile that read a column of a level: as their upper element at first, and then
// as their lower one.
struct ColumnReaders {
  int16_t first, first_above, last;
};

template <typename Real, int planes>
struct PartMemory {
  Real values[planes][kPyramidRows][kPyramidColumns];
  Real blended[planes][kMostRowsRead][kPyramidPitch];  // along y
  LevelPlace<Real> rows[kPyramidRows];
  Real shares[kPyramidPitch];  // of the upper element, for each column of the tile
  ColumnReaders readers[kMostColumnsRead];
};

// Fills the tile with the gradient of the sums, 0 beyond the image, and writes it where the level
// of the image's size takes part.
template <typename Real, int planes>
__device__ __forceinline__ void unmix_tile(const PyramidGradientParams& params,
                                           const PyramidShape& shape, const PyramidTile& tile,
                                           PartMemory<Real, planes>& memory) {
  const PyramidSizes& sizes = params.sizes;
  const PixelBackward<Real, planes> backward(params, params.gain);
  const int64_t area = sizes.area();
  for (int pixel = static_cast<int>(threadIdx.x); pixel < kPyramidRows * kPyramidColumns;
       pixel += kPyramidTileThreads<planes>) {
    const int row = pixel / kPyramidColumns, column = pixel % kPyramidColumns;
    Real values[planes] = {};
    if (row < tile.rows && column < tile.columns) {
      const int64_t offset = (tile.row + row) * sizes.width + tile.column + column;
      const int64_t at = tile.group * planes * area + offset;
      Real gradient[planes], colors[planes];
#pragma unroll
      for (int i = 0; i < planes; ++i) {
        gradient[i] = static_cast<const Real*>(params.gradient)[at + i * area];
        colors[i] = static_cast<const Real*>(params.image)[at + i * area];
      }
      backward.make_gradient(gradient, colors, values);
      if (shape.has_image) {
        Real* out = static_cast<Real*>(params.out) + tile.group * planes * shape.levels.elements +
                    shape.levels.level[shape.levels.count - 1].offset + offset;
#pragma unroll
        for (int i = 0; i < planes; ++i) out[i * shape.levels.elements] = values[i];
      }
    }
#pragma unroll
    for (int i = 0; i < planes; ++i) memory.values[i][row][column] = values[i];
  }
}

// Goes down a column of the tile: each row adds to the two rows of the level that it reads.
template <typename Real>
__device__ __forceinline__ void blend_column(const LevelPlace<Real>* samples, int level_rows,
                                             const Real (*values)[kPyramidColumns], int column,
                                             Real (*blended)[kPyramidPitch]) {
  const int place = padded(column);
  int row = 0;
  Real sum = 0, next = 0;  // of this row of the level, and of the one below it
  for (int y = 0; y < kPyramidRows; ++y) {
    const LevelPlace<Real> sample = samples[y];
    while (row < sample.lower) {
      blended[row++][place] = sum;
      sum = next;
      next = 0;
    }
    const Real value = values[y][column];
    sum += (1 - sample.share) * value;
    next += sample.share * value;
  }
  for (; row < level_rows; ++row) {
    blended[row][place] = sum;
    sum = next;
    next = 0;
  }
}

// Makes the shares of the columns of the tile, and who reads the columns of the level.
template <typename Real, int planes>
__device__ __forceinline__ void place_columns(const LevelAxis& axis, const PyramidTile& tile,
                                              const TileReach& reach,
                                              PartMemory<Real, planes>& memory) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < tile.columns) {
    memory.shares[padded(thread)] = axis.sample<Real>(tile.column + thread).share;
  }
  if (thread < reach.columns) {
    const auto inside = [&](int64_t pixel, int limit) {
      return static_cast<int16_t>(min(max(pixel - tile.column, int64_t{0}), int64_t{limit}));
    };
    const int column = reach.column + thread;
    memory.readers[thread] = {inside(axis.first_reader(column), tile.columns),
                              inside(axis.first_above(column), tile.columns),
                              inside(axis.last_reader(column), tile.columns - 1)};
  }
}

// The part of the gradient of one level that comes from the tile.
template <typename Real, int planes>
__device__ __forceinline__ void gather_level(const PyramidShape& shape, const PyramidSizes& sizes,
                                             const PyramidTile& tile, int index, Real* parts,
                                             PartMemory<Real, planes>& memory) {
  const PyramidLevel& level = shape.levels.level[index];
  const TileReach reach(level, sizes, tile);
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();  // the memory may still be read
  place_pixels(LevelAxis(level.height, sizes.height), tile.row, tile.rows, reach.row, memory.rows);
  place_columns(LevelAxis(level.width, sizes.width), tile, reach, memory);
  __syncthreads();
  const int own_plane = thread / kPyramidColumns, own_column = thread % kPyramidColumns;
  blend_column(memory.rows, reach.rows, memory.values[own_plane], own_column,
               memory.blended[own_plane]);
  __syncthreads();
  const int64_t of_plane = shape.parts.tiles() * shape.parts.of_tile;
  const int elements = reach.rows * reach.columns;
  for (int at = thread; at < planes * elements; at += kPyramidTileThreads<planes>) {
    const int plane = at / elements, row = (at - plane * elements) / reach.columns;
    const int column = at - plane * elements - row * reach.columns;
    const Real* blended = memory.blended[plane][row];
    Real sum = 0;
    const ColumnReaders readers = memory.readers[column];
    for (int x = readers.first; x < readers.first_above; ++x) {
      sum += memory.shares[padded(x)] * blended[padded(x)];
    }
    for (int x = readers.first_above; x <= readers.last; ++x) {
      sum += (1 - memory.shares[padded(x)]) * blended[padded(x)];
    }
    parts[plane * of_plane + shape.parts.offset[index] + row * shape.parts.columns[index] +
          column] = sum;
  }
}

template <typename Real, int planes>
__global__ void __launch_bounds__(kPyramidTileThreads<planes>)
    pyramid_gradient_kernel(const PyramidGradientParams params, const PyramidShape shape,
                            int64_t first_group) {
  __shared__ PartMemory<Real, planes> memory;
  const PyramidTile tile(shape, params.sizes, first_group);
  unmix_tile(params, shape, tile, memory);
  Real* parts = static_cast<Real*>(params.scratch) +
                (tile.group * planes * shape.parts.tiles() + tile.index) * shape.parts.of_tile;
  for (int index = 0; index < shape.coarse; ++index) {
    gather_level(shape, params.sizes, tile, index, parts, memory);
  }
}

// The elements of the coarse levels that a launch adds up. Those of the coarsest have many parts,
// and a warp each; all others, and those that take no part, have a thread each.
struct PartSums {
  int64_t elements;  // of one plane: all but those of an image's size that are written already
  int64_t of_warps;  // of these
};

inline PartSums part_sums_of(const PyramidShape& shape, const PyramidSizes& sizes) {
  PartSums sums{};
  const PyramidLevels& levels = shape.levels;
  sums.elements = shape.has_image ? levels.level[levels.count - 1].offset : levels.elements;
  for (int index = 0; index < shape.coarse; ++index) {
    const PyramidLevel& level = levels.level[index];
    const int64_t down = 2 * sizes.height / level.height / kPyramidRows + 2;
    const int64_t across = 2 * sizes.width / level.width / kPyramidColumns + 2;
    const int64_t parts = std::min(down, shape.parts.down) * std::min(across, shape.parts.across);
    if (parts <= kPartsOfThread) break;
    sums.of_warps = level.offset + int64_t{level.height} * level.width;
  }
  return sums;
}

// The sum of the parts of an element, of which a lane takes every `lanes`-th tile.
template <typename Real>
__device__ __forceinline__ Real sum_of_parts(const PyramidShape& shape, const PyramidSizes& sizes,
                                             const Real* parts, int index, int element, int lane,
                                             int lanes) {
  const PyramidLevel& level = shape.levels.level[index];
  const LevelAxis down(level.height, sizes.height), across(level.width, sizes.width);
  const int row = element / level.width, column = element - row * level.width;
  const int top = static_cast<int>(down.first_reader(row)) / kPyramidRows;
  const int left = static_cast<int>(across.first_reader(column)) / kPyramidColumns;
  const int wide = static_cast<int>(across.last_reader(column)) / kPyramidColumns + 1 - left;
  const int tiles = (static_cast<int>(down.last_reader(row)) / kPyramidRows + 1 - top) * wide;
  Real sum = 0;
  for (int at = lane; at < tiles; at += lanes) {
    const int tile_row = top + at / wide, tile_column = left + at % wide;
    const int skipped = row - down.sample<float>(tile_row * kPyramidRows).lower;
    const int aside = column - across.sample<float>(tile_column * kPyramidColumns).lower;
    sum += parts[(tile_row * shape.parts.across + tile_column) * shape.parts.of_tile +
                 shape.parts.offset[index] + skipped * shape.parts.columns[index] + aside];
  }
  return sum;
}

template <typename Real>
__global__ void __launch_bounds__(kPyramidPartThreads)
    add_pyramid_parts_kernel(const PyramidGradientParams params, const PyramidShape shape,
                             const PartSums sums, int64_t first_plane) {
  const int64_t thread = int64_t{blockIdx.x} * kPyramidPartThreads + threadIdx.x;
  const int64_t plane = first_plane + blockIdx.y;
  const int64_t of_warps = sums.of_warps * kWarp;  // threads
  const bool is_warp = thread < of_warps;          // the same in all lanes of a warp
  const int64_t number = is_warp ? thread / kWarp : sums.of_warps + thread - of_warps;
  if (number >= sums.elements) return;
  int index = 0;
  while (index + 1 < shape.levels.count && shape.levels.level[index + 1].offset <= number) ++index;
  const int element = static_cast<int>(number - shape.levels.level[index].offset);
  const Real* parts =
      static_cast<const Real*>(params.scratch) + plane * shape.parts.tiles() * shape.parts.of_tile;
  Real* out = static_cast<Real*>(params.out) + plane * shape.levels.elements + number;
  if (!is_warp) {
    *out = index < shape.coarse ? sum_of_parts(shape, params.sizes, parts, index, element, 0, 1)
                                : Real(0);
    return;
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Real sum = sum_of_parts(shape, params.sizes, parts, index, element, lane, kWarp);
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    sum += __shfl_down_sync(0xffffffffu, sum, distance);
  }
  if (lane == 0) *out = sum;
}

template <typename Real, int planes>
void launch_gradient(const PyramidGradientParams& params, const Target& target) {
  const char* const name = "pyramid_gradient";
  const DeviceGuard guard(target, name);
  const PyramidShape shape = shape_of(params.sizes);
  const int64_t groups = params.sizes.planes() / planes;
  const unsigned blocks = grid_x(shape.parts.tiles(), name);
  for (int64_t first = 0; first < groups; first += kGridYz) {
    const dim3 grid(blocks, grid_yz(groups - first));
    pyramid_gradient_kernel<Real, planes>
        <<<grid, kPyramidTileThreads<planes>, 0, stream_of(target)>>>(params, shape, first);
    check_launch(name);
  }
  const PartSums sums = part_sums_of(shape, params.sizes);
  if (sums.elements == 0) return;
  const int64_t threads = sums.of_warps * (kWarp - 1) + sums.elements;
  const unsigned part_blocks = grid_x(divided_up(threads, kPyramidPartThreads), name);
  for (int64_t first = 0; first < params.sizes.planes(); first += kGridYz) {
    const dim3 grid(part_blocks, grid_yz(params.sizes.planes() - first));
    add_pyramid_parts_kernel<Real>
        <<<grid, kPyramidPartThreads, 0, stream_of(target)>>>(params, shape, sums, first);
    check_launch(name);
  }
}

void pyramid_gradient(const PyramidGradientParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? launch_gradient<Real, 3>(params, target)
                      : launch_gradient<Real, 1>(params, target);
  });
}

int64_t pyramid_gradient_scratch(const PyramidGradientParams& params) {
  const PyramidParts parts = shape_of(params.sizes).parts;
  const int64_t real = params.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
  return params.sizes.planes() * parts.tiles() * parts.of_tile * real;
}

}  // namespace fvfast::cuda
