// The image of a pyramid.
//
// A block makes a tile of all planes that share colors. It stages the few elements of each coarse
// level that the tile reads in shared memory; then each thread adds up the levels in four pixels of
// one column, mixes them and writes them once.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/pixels.h"
#include "cuda/pyramid/tile.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kPyramidThreads = 256;
constexpr int kRowsOfThread = kPyramidRows * kPyramidColumns / kPyramidThreads;
// Of these at once: there are registers for so many.
template <typename Real>
constexpr int kRowsAtOnce = sizeof(Real) == sizeof(double) ? 1 : kRowsOfThread;
constexpr int kPyramidWarps = kPyramidThreads / kWarp;

template <typename Real, int planes>
struct LevelMemory {
  LevelPlace<Real> rows[kMostLevels][kPyramidRows];
  LevelPlace<Real> columns[kMostLevels][kPyramidColumns];
  Real elements[planes][kMostElementsRead];
  int first[kMostLevels];  // of each level among the elements
  int width[kMostLevels];  // of what is read of it
};

// Copies what the tile reads of all coarse levels, a warp for each row.
template <typename Real, int planes>
__device__ __forceinline__ void stage_levels(const PyramidShape& shape, const PyramidSizes& sizes,
                                             const PyramidTile& tile, const Real* pyramid,
                                             LevelMemory<Real, planes>& memory) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int first = 0;
  for (int index = 0; index < shape.coarse; ++index) {
    const PyramidLevel& level = shape.levels.level[index];
    const TileReach reach(level, sizes, tile);
    place_pixels(LevelAxis(level.height, sizes.height), tile.row, tile.rows, reach.row,
                 memory.rows[index]);
    place_pixels(LevelAxis(level.width, sizes.width), tile.column, tile.columns, reach.column,
                 memory.columns[index]);
    if (threadIdx.x == 0) {
      memory.first[index] = first;
      memory.width[index] = reach.columns;
    }
    for (int line = warp; line < planes * reach.rows; line += kPyramidWarps) {
      const int plane = line / reach.rows, row = line - plane * reach.rows;
      const Real* from = pyramid + plane * shape.levels.elements + level.offset +
                         int64_t{reach.row + row} * level.width + reach.column;
      Real* to = memory.elements[plane] + first + row * reach.columns;
      for (int column = lane; column < reach.columns; column += kWarp) to[column] = from[column];
    }
    first += reach.rows * reach.columns;
  }
}

// Adds what the coarse levels give to some pixels of a column.
template <typename Real, int planes, int count>
__device__ __forceinline__ void add_levels(int coarse, int column, int first_row,
                                           const LevelMemory<Real, planes>& memory,
                                           Real (&sums)[count][planes]) {
  for (int index = 0; index < coarse; ++index) {
    const LevelPlace<Real> across = memory.columns[index][column];
    const int first = memory.first[index], width = memory.width[index];
#pragma unroll
    for (int row = 0; row < count; ++row) {
      const LevelPlace<Real> down = memory.rows[index][first_row + row];
      const int upper = first + down.lower * width, lower = first + down.upper * width;
#pragma unroll
      for (int plane = 0; plane < planes; ++plane) {
        const Real* elements = memory.elements[plane];
        const Real left = elements[upper + across.lower], right = elements[upper + across.upper];
        const Real below_left = elements[lower + across.lower];
        const Real below_right = elements[lower + across.upper];
        const Real above = left + across.share * (right - left);
        const Real below = below_left + across.share * (below_right - below_left);
        sums[row][plane] += above + down.share * (below - above);
      }
    }
  }
}

// Makes some pixels of a column, of all planes.
template <typename Real, int planes>
__device__ __forceinline__ void make_pixels(const PyramidImageParams& params,
                                            const PyramidShape& shape, const PyramidTile& tile,
                                            const Real* pyramid, int column, int first_row,
                                            const LevelMemory<Real, planes>& memory) {
  constexpr int kCount = kRowsAtOnce<Real>;
  const int64_t area = params.sizes.area(), width = params.sizes.width;
  const int64_t offset = (tile.row + first_row) * width + tile.column + column;
  const Real* own = pyramid + shape.levels.level[shape.levels.count - 1].offset + offset;
  Real sums[kCount][planes];
#pragma unroll
  for (int row = 0; row < kCount; ++row) {
    const bool reads = shape.has_image && first_row + row < tile.rows;
#pragma unroll
    for (int plane = 0; plane < planes; ++plane) {
      sums[row][plane] = reads ? own[plane * shape.levels.elements + row * width] : Real(0);
    }
  }
  add_levels(shape.coarse, column, first_row, memory, sums);

  const PixelForward<Real, planes> forward(params, params.gain);
  Real* image = static_cast<Real*>(params.image) + tile.group * planes * area + offset;
#pragma unroll
  for (int row = 0; row < kCount; ++row) {
    if (first_row + row >= tile.rows) return;
    Real colors[planes];
    forward.make_pixel(sums[row], colors);
#pragma unroll
    for (int plane = 0; plane < planes; ++plane) {
      image[plane * area + row * width] = colors[plane];
    }
  }
}

template <typename Real, int planes>
__global__ void __launch_bounds__(kPyramidThreads)
    pyramid_image_kernel(const PyramidImageParams params, const PyramidShape shape,
                         int64_t first_group) {
  __shared__ LevelMemory<Real, planes> memory;
  const PyramidTile tile(shape, params.sizes, first_group);
  const Real* pyramid =
      static_cast<const Real*>(params.pyramid) + tile.group * planes * shape.levels.elements;
  stage_levels(shape, params.sizes, tile, pyramid, memory);
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x) % kPyramidColumns;
  const int first = static_cast<int>(threadIdx.x) / kPyramidColumns * kRowsOfThread;
  if (column >= tile.columns) return;
#pragma unroll 1
  for (int row = 0; row < kRowsOfThread; row += kRowsAtOnce<Real>) {
    make_pixels(params, shape, tile, pyramid, column, first + row, memory);
  }
}

template <typename Real, int planes>
void launch_image(const PyramidImageParams& params, const Target& target) {
  const char* const name = "pyramid_image";
  const DeviceGuard guard(target, name);
  const PyramidShape shape = shape_of(params.sizes);
  const int64_t groups = params.sizes.planes() / planes;
  const unsigned blocks = grid_x(shape.parts.tiles(), name);
  for (int64_t first = 0; first < groups; first += kGridYz) {
    const dim3 grid(blocks, grid_yz(groups - first));
    pyramid_image_kernel<Real, planes>
        <<<grid, kPyramidThreads, 0, stream_of(target)>>>(params, shape, first);
    check_launch(name);
  }
}

void pyramid_image(const PyramidImageParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? launch_image<Real, 3>(params, target)
                      : launch_image<Real, 1>(params, target);
  });
}

}  // namespace fvfast::cuda
