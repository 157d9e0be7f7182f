// Resampling of one row of an image along x, by one warp.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "cuda/launch.h"
#include "cuda/thread.h"

namespace fvfast::cuda {

constexpr float kStagedSpacing = 8;  // samples further apart than a sector: staging reads more

// What a warp knows of the columns of its tile.
template <typename Real>
struct RowSamples {
  const int* column_lower;  // the pixel at or before each column; -1: outside
  const Real* column_share;
  int columns;
  int begin, end;  // columns inside the image
  float spacing;   // of columns, in pixels, >= 0
};

// A row of an image, whose pixels lie `stride` apart.
template <typename Real>
struct ImageRow {
  const Real* pixels;
  int stride;
  int length;
};

// Columns [first, last) of a tile, of which [begin, end) lie inside the image.
struct ColumnRange {
  int first, last;
  int begin, end;
};

// Resamples columns from global memory: where samples lie far apart, each needs sectors of its own.
template <typename Real>
__device__ __forceinline__ void resample_unstaged(const ThreadPlace& thread,
                                                  const ImageRow<Real>& row,
                                                  const RowSamples<Real>& samples,
                                                  const ColumnRange& range, Real* out) {
  for (int x = range.first + thread.lane; x < range.last; x += kWarp) {
    Real value = 0;
    if (x >= range.begin && x < range.end) {
      const int pixel = samples.column_lower[x];
      const Real lower = __ldg(row.pixels + int64_t{pixel} * row.stride);
      const Real upper = __ldg(row.pixels + int64_t{min(pixel + 1, row.length - 1)} * row.stride);
      value = lower + samples.column_share[x] * (upper - lower);
    }
    out[x] = value;
  }
}

// Stages the pixels that some columns read in `buffer`. Returns the pixel that lies at its start.
template <typename Real, int kStaged>
__device__ __forceinline__ int stage_pixels(const ThreadPlace& thread, const ImageRow<Real>& row,
                                            const RowSamples<Real>& samples,
                                            const ColumnRange& range, Real* buffer) {
  constexpr int kSector = 32 / static_cast<int>(sizeof(Real));
  // Positions are monotonic: the extremes are at the ends. The pixel after the last one of a row
  // counts as 0: its share is 0.
  const int left = samples.column_lower[range.begin], right = samples.column_lower[range.end - 1];
  const int low = min(left, right), high = max(left, right) + 1;
  int before = 0;
  if (row.stride == 1) {  // sectors are read whole, from their start
    before = static_cast<int>(reinterpret_cast<uintptr_t>(row.pixels + low) / sizeof(Real)) &
             (kSector - 1);
  }
  const int start = low - before;
  const int count = min(high + 1, row.length) - start, stored = high + 1 - start;
  if (row.stride == 1) {
    const Real* from = row.pixels + start + thread.lane;
    Real values[kStaged / kWarp];
    FVFAST_UNROLL
    for (int i = 0; i < kStaged / kWarp; ++i) {
      const int at = i * kWarp + thread.lane;
      values[i] = 0;
      if ((i > 0 || at >= before) && at < count) values[i] = __ldg(from + i * kWarp);
    }
    FVFAST_UNROLL
    for (int i = 0; i < kStaged / kWarp; ++i) {
      if (i * kWarp < stored) buffer[i * kWarp + thread.lane] = values[i];
    }
  } else {
    for (int at = thread.lane; at < stored; at += kWarp) {
      buffer[at] = at < count ? __ldg(row.pixels + int64_t{start + at} * row.stride) : Real(0);
    }
  }
  return start;
}

// Resamples columns from pixels in shared memory, of which pixels[0] is the first of the image.
template <typename Real>
__device__ __forceinline__ void resample_staged(const ThreadPlace& thread, const Real* pixels,
                                                int most_lanes, const RowSamples<Real>& samples,
                                                const ColumnRange& range, Real* out) {
  // All turns have the same number of lanes; those beyond the last column write into the margin.
  const int turns = (range.last - range.first + most_lanes - 1) / most_lanes;
  const int lanes = (range.last - range.first + turns - 1) / turns;
  if (thread.lane < lanes) {
    int x = range.first + thread.lane;
    for (int turn = 0; turn < turns; ++turn, x += lanes) {
      // Columns outside the image read what a neighbor inside reads, and discard it.
      const int from = min(max(x, range.begin), range.end - 1);
      const int pixel = samples.column_lower[from];
      const Real lower = pixels[pixel], upper = pixels[pixel + 1];
      const Real value = lower + samples.column_share[from] * (upper - lower);
      out[x] = from == x ? value : Real(0);
    }
  }
}

// Resamples all columns of a tile. `buffer` has kStaged numbers.
template <int kStaged, typename Real>
__device__ void resample_row(const ThreadPlace& thread, const ImageRow<Real>& row,
                             const RowSamples<Real>& samples, Real* buffer, Real* out) {
  constexpr int kSector = 32 / static_cast<int>(sizeof(Real));
  const bool staged = samples.spacing <= kStagedSpacing;
  // As many columns as have pixels that fit the buffer.
  const float fitting = __fdividef(kStaged - kSector - 3, samples.spacing);
  const int most = staged ? 1 + static_cast<int>(fminf(fitting, 1e6f)) : samples.columns;
  // Pixels less than 32 apart lie in different banks. Where samples are more than a pixel apart,
  // some lanes rest, so that the others do not wait for a second access.
  const int most_lanes = samples.spacing > 1 && samples.spacing < 2
                             ? static_cast<int>(__fdividef(kWarp - 1, samples.spacing)) + 1
                             : kWarp;
  for (int first = 0; first < samples.columns; first += most) {
    const int last = min(first + most, samples.columns);
    const ColumnRange range = {first, last, max(first, samples.begin), min(last, samples.end)};
    if (range.begin >= range.end) {
      for (int x = first + thread.lane; x < last; x += kWarp) out[x] = 0;
      continue;
    }
    if (!staged) {
      resample_unstaged(thread, row, samples, range, out);
      continue;
    }
    const int start = stage_pixels<Real, kStaged>(thread, row, samples, range, buffer);
    __syncwarp();
    resample_staged(thread, buffer - start, most_lanes, samples, range, out);
    __syncwarp();
  }
}

}  // namespace fvfast::cuda
