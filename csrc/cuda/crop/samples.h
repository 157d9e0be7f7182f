// Where the columns and rows of a tile lie in the image. Positions are double, which is slow on
// most GPUs, so that they are computed once for each column and row, and not for each pixel.
#pragma once

#include <cstdint>

#include "common/bilinear.h"
#include "cuda/crop/tile.h"
#include "cuda/thread.h"
#include "ops.h"

namespace fvfast::cuda {

// Arrays in shared memory.
template <typename Real>
struct TileSamples {
  int* column_lower;   // the pixel at or before each column; -1: outside
  Real* column_share;  // of the pixel after it
  int* row_lower;      // the same for the rows
  Real* row_share;
  int* inside;      // inside the image: first and last + 1 column, first and last + 1 row
  float* spacings;  // of columns and of rows, in pixels, >= 0
};

// The row that a thread places. Columns are dealt out from the first thread on and rows from the
// last one, so that most threads have one of them at most.
__device__ __forceinline__ int row_of(const ThreadPlace& thread) {
  return kCropThreads - 1 - thread.index;
}

// A barrier must follow.
template <typename Real, int kGroup>
__device__ __forceinline__ void place_samples(const ThreadPlace& thread, const CropParams& params,
                                              const CropTile<kGroup>& tile,
                                              const TileSamples<Real>& samples) {
  if (thread.index < 4) samples.inside[thread.index] = 0;
  const Box box = box_at(params.boxes, params.box_dtype, tile.image * params.crops + tile.crop);
  {
    const Axis axis(box.x1, box.x2, params.width, params.image_width);
    for (int x = thread.index; x < tile.columns; x += kCropThreads) {
      const Sample sample = axis.sample(tile.first_column + x);
      samples.column_lower[x] = sample.inside ? static_cast<int>(sample.lower) : -1;
      samples.column_share[x] = static_cast<Real>(sample.share);
    }
    if (thread.index == 0) samples.spacings[0] = fabsf(axis.spacing());
  }
  const int row = row_of(thread);
  if (row < tile.rows) {
    const Axis axis(box.y1, box.y2, params.height, params.image_height);
    const Sample sample = axis.sample(tile.first_row + row);
    samples.row_lower[row] = sample.inside ? static_cast<int>(sample.lower) : -1;
    samples.row_share[row] = static_cast<Real>(sample.share);
    if (row == 0) samples.spacings[1] = fabsf(axis.spacing());
  }
}

// Positions are monotonic: what lies inside the image is one range of columns, and one of rows.
template <typename Real>
__device__ __forceinline__ void find_inside_columns(const ThreadPlace& thread, int columns,
                                                    const TileSamples<Real>& samples) {
  for (int x = thread.index; x < columns; x += kCropThreads) {
    if (samples.column_lower[x] < 0) continue;
    if (x == 0 || samples.column_lower[x - 1] < 0) samples.inside[0] = x;
    if (x == columns - 1 || samples.column_lower[x + 1] < 0) samples.inside[1] = x + 1;
  }
}

}  // namespace fvfast::cuda
