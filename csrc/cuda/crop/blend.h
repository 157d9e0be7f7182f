// Blending of rows of the ring into four consecutive pixels of each channel.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "cuda/packs.h"

namespace fvfast::cuda {

// A run: pixels that follow one another in memory, which are all rows of a pass or one of them. A
// warp makes a unit of it at a time, four pixels in each lane.
struct RunPixels {
  int row;      // of the tile: the first of the run
  int first;    // of the unit, counted from that of the run; may be negative
  int pixel;    // the first of this lane's four
  int count;    // of the run
  int skipped;  // where the noise of the run's first element lies in its counter

  __device__ __forceinline__ bool contains(int at) const { return at >= 0 && at < count; }
};

// What blending reads: the ring, and where the rows of the tile lie in it.
template <typename Real>
struct RingReader {
  const Real* ring;
  int pitch;
  const int* row_low;
  const int* row_high;
  const Real* row_share;
  int columns;
  float per_column;
  bool empty;  // all columns lie outside the image

  // Rows of the run before a pixel: pixel / columns. Adding half a column makes up for rounding, as
  // both are small whole numbers.
  __device__ __forceinline__ int rows_before(int pixel) const {
    return static_cast<int>((static_cast<float>(pixel) + 0.5f) * per_column);
  }

  // Four pixels of one row, which start at a multiple of four columns.
  template <int kGroup>
  __device__ __forceinline__ void blend_aligned(const RunPixels& run,
                                                Real (&values)[4 * kGroup]) const {
    const int offset = rows_before(run.pixel), y = run.row + offset;
    const int low = run.pixel < run.count && !empty ? row_low[y] : -1;
    if (low >= 0) {
      const Real share = row_share[y];
      const Real* from = ring + run.pixel - offset * columns;
      const int step = row_high[y] - low;
      FVFAST_UNROLL
      for (int c = 0; c < kGroup; ++c) {
        Real lower[4], upper[4];
        load_four(from + low + c * pitch, lower);
        load_four(from + low + step + c * pitch, upper);
        FVFAST_UNROLL
        for (int i = 0; i < 4; ++i) {
          values[i * kGroup + c] = lower[i] + share * (upper[i] - lower[i]);
        }
      }
    }
  }

  // Four pixels wherever they lie, which may be of two rows.
  template <int kGroup>
  __device__ __forceinline__ void blend_any(const RunPixels& run,
                                            Real (&values)[4 * kGroup]) const {
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (!run.contains(run.pixel + i) || empty) continue;
      const int offset = rows_before(run.pixel + i), y = run.row + offset;
      const int low = row_low[y];
      if (low < 0) continue;
      const Real share = row_share[y];
      const Real* from = ring + run.pixel + i - offset * columns;
      FVFAST_UNROLL
      for (int c = 0; c < kGroup; ++c) {
        const Real lower = from[low + c * pitch], upper = from[row_high[y] + c * pitch];
        values[i * kGroup + c] = lower + share * (upper - lower);
      }
    }
  }

  // Value i * kGroup + c is pixel i of channel c; 0 outside the image.
  template <int kGroup>
  __device__ __forceinline__ void blend(const RunPixels& run, Real (&values)[4 * kGroup]) const {
    FVFAST_UNROLL
    for (int i = 0; i < 4 * kGroup; ++i) values[i] = 0;
    if (run.skipped == 0 && columns % 4 == 0) {
      blend_aligned<kGroup>(run, values);
    } else {
      blend_any<kGroup>(run, values);
    }
  }
};

}  // namespace fvfast::cuda
