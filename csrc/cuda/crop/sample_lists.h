// The samples of a piece of a crop, listed by the pixels that they read: what turns the transpose
// of resampling into a gather.
//
// Each sample reads a pixel and the next one. So samples are listed by the former: those in
// list p contribute (1 - share) of themselves to pixel p - 1 of the tile, and share to pixel p.
#pragma once

#include <cstdint>

#include "common/bilinear.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/launch.h"

namespace fvfast::cuda {

// Of one axis: arrays in shared memory. Positions are monotonic, so that each list is one range.
template <typename Real>
struct SampleLists {
  Real* share;      // of each sample
  uint16_t* begin;  // of each list
  uint16_t* end;
};

// Enters a sample. `list` is where it belongs, or -1, and `before` and `after` are the lists of its
// neighbors.
__device__ inline void enter(int sample, int list, int before, int after, uint16_t* begins,
                             uint16_t* ends) {
  if (list < 0) return;
  if (before != list) begins[list] = static_cast<uint16_t>(sample);
  if (after != list) ends[list] = static_cast<uint16_t>(sample + 1);
}

// The list of a sample, -1 for none; writes its share. Lists are those of `size` pixels, of which
// the first is pixel `first` of the image, and of the pixel before.
template <typename Real>
__device__ __forceinline__ int list_of(const Sample& sample, int first, int size, Real* share) {
  int list = -1;
  const int at = static_cast<int>(sample.lower) - (first - 1);
  if (sample.inside && at >= 0 && at <= size) list = at;
  *share = static_cast<Real>(sample.share);
  return list;
}

// Finds the lists of `count` columns from `left` on, and clears the lists. For the threads of one
// channel; a barrier must follow, then enter_column().
template <typename Real>
__device__ __forceinline__ void find_column_lists(const Axis& axis, int column, int left, int count,
                                                  int first_pixel, int* list_of_column,
                                                  const SampleLists<Real>& lists) {
  int list = -1;
  if (column < count) {
    list = list_of(axis.sample(left + column), first_pixel, kTileColumns, &lists.share[column]);
  }
  list_of_column[column] = list;
  for (int i = column; i < kTileColumns + 2; i += kTileColumns) lists.begin[i] = lists.end[i] = 0;
}

template <typename Real>
__device__ __forceinline__ void enter_column(int column, int count, const int* list_of_column,
                                             const SampleLists<Real>& lists) {
  const int before = column == 0 ? -1 : list_of_column[column - 1];
  const int after = column == count - 1 ? -1 : list_of_column[column + 1];
  enter(column, list_of_column[column], before, after, lists.begin, lists.end);
}

// Lists `count` rows from `top` on. For one warp; a barrier must follow.
template <typename Real>
__device__ __forceinline__ void list_rows(const Axis& axis, int lane, int top, int count,
                                          int first_row, const SampleLists<Real>& lists) {
  int list = -1;
  if (lane < count) {
    list = list_of(axis.sample(top + lane), first_row, kTileRows, &lists.share[lane]);
  }
  if (lane < kTileRows + 2) lists.begin[lane] = lists.end[lane] = 0;
  const int before = __shfl_up_sync(0xffffffffu, list, 1);
  const int after = __shfl_down_sync(0xffffffffu, list, 1);
  __syncwarp();
  enter(lane, list, lane == 0 ? -1 : before, lane == kWarp - 1 ? -1 : after, lists.begin,
        lists.end);
}

}  // namespace fvfast::cuda
