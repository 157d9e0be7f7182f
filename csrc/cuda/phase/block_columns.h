// The columns of a half spectrum that a block has: one for each of its lanes.
#pragma once

#include <cstdint>

#include "cuda/phase/complex.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/spectrum.h"
#include "ops.h"

namespace fvfast::cuda {

// Columns of one channel of one image. Consecutive threads take consecutive columns of a row.
struct BlockColumns {
  int64_t half;  // columns of a row
  int64_t image;
  int channel, tile;
  int64_t column;  // of this thread
  bool valid;      // whether there is such a column
  int lane;
  int first_row, row_step, height;  // the rows of this thread

  template <typename Arguments>
  __device__ __forceinline__ explicit BlockColumns(const Arguments& arguments) {
    const SpectrumSizes& sizes = arguments.sizes;
    half = sizes.half();
    image = arguments.first_image + blockIdx.y;
    const int block = static_cast<int>(blockIdx.x);
    channel = block / arguments.tiles;
    tile = block % arguments.tiles;
    height = static_cast<int>(sizes.height);
    lane = static_cast<int>(threadIdx.x) & (arguments.lanes - 1);
    first_row = static_cast<int>(threadIdx.x) / arguments.lanes;
    row_step = static_cast<int>(blockDim.x) / arguments.lanes;
    column = int64_t{tile} * arguments.lanes + lane;
    valid = column < half;
  }

  // The row of the bin whose frequency is the negative of that of `row`, on an edge column.
  __device__ __forceinline__ int opposite(int row) const { return row == 0 ? 0 : height - row; }
};

// Where a column is transformed in shared memory: its lane.
template <typename Real>
struct ColumnLane {
  const TransformMemory<Real>& memory;
  Plain layout;
  int lane;

  // An element of the input, which the transform wants in digit-reversed order.
  __device__ __forceinline__ Complex<Real>& input(int row) const {
    return memory.values[layout(memory.places[row], lane)];
  }

  __device__ __forceinline__ Complex<Real>& output(int row) const {
    return memory.values[layout(row, lane)];
  }
};

}  // namespace fvfast::cuda
