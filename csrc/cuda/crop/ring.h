// The ring of rows in shared memory: rows of the image, resampled along x, of which those that the
// next rows of the crop need too are kept.
#pragma once

#include <cstdint>

#include "cuda/crop/resample_row.h"
#include "cuda/crop/samples.h"
#include "cuda/crop/tile.h"
#include "ops.h"

namespace fvfast::cuda {

// How the ring is laid out. Rows of a crop that are close together share rows of the image, each of
// which has its slot; otherwise each row of the crop has two slots.
template <typename Memory, int kGroup>
struct RingLayout {
  int pitch;  // from one channel of a row to the next
  int slots;
  bool shared;
  int pass;  // rows of the crop that are done at a time

  __device__ __forceinline__ RingLayout(int columns, float row_spacing) {
    pitch = (columns + (columns - 1) / Memory::kTurn + 3) / 4 * 4;
    slots = Memory::kRing / (kGroup * pitch);
    const int close = 1 + static_cast<int>(fminf(
                              __fdividef(static_cast<float>(slots - 3), row_spacing), kCropRows));
    shared = close >= slots / 2;
    pass = shared ? close : slots / 2;
  }
};

// Where in the ring the two rows start that each row of the tile lies between: arrays in shared
// memory.
struct RingRows {
  int* low;  // -1: the row lies outside the image
  int* high;
};

// Finds the rows of the tile that lie inside the image, and their places in the ring. A barrier
// must follow.
template <typename Real, typename Memory, int kGroup>
__device__ __forceinline__ void place_rows(const ThreadPlace& thread, int rows, int image_height,
                                           const RingLayout<Memory, kGroup>& layout,
                                           const TileSamples<Real>& samples,
                                           const RingRows& places) {
  const int row = row_of(thread);
  if (row < rows) {
    const int lower = samples.row_lower[row];
    int low = -1, high = -1;
    if (lower >= 0) {
      if (row == 0 || samples.row_lower[row - 1] < 0) samples.inside[2] = row;
      if (row == rows - 1 || samples.row_lower[row + 1] < 0) samples.inside[3] = row + 1;
      const int upper = min(lower + 1, image_height - 1);
      low = layout.shared ? lower % layout.slots : 2 * (row % layout.pass);
      high = layout.shared ? upper % layout.slots : low + 1;
      low *= kGroup * layout.pitch;
      high *= kGroup * layout.pitch;
    }
    places.low[row] = low;
    places.high[row] = high;
  }
}

// Rows of the image that are in the ring, [begin, end).
struct HeldRows {
  int begin = 0, end = 0;
};

// Resamples what rows [begin, end) of the tile need and the ring does not hold, a row of one
// channel by one warp. `buffer` is the warp's own.
template <typename Memory, int kGroup, typename Real>
__device__ __forceinline__ void fill_ring(const ThreadPlace& thread, const CropParams& params,
                                          const Real* pixels, int begin, int end,
                                          const RingLayout<Memory, kGroup>& layout,
                                          const int* row_lower, const RowSamples<Real>& samples,
                                          HeldRows& held, Real* buffer, Real* ring) {
  const int image_height = static_cast<int>(params.image_height);
  int needed = 2 * begin, needed_end = 2 * end;  // two for each row of the crop
  if (layout.shared) {
    const int left = row_lower[begin], right = row_lower[end - 1];
    const int low = min(left, right), high = min(max(left, right) + 2, image_height);
    needed = low >= held.begin ? max(low, held.end) : low;
    needed_end = low >= held.begin ? high : min(high, held.begin);
    held.begin = low;
    held.end = high;
  }
  for (int task = thread.warp; task < (needed_end - needed) * kGroup; task += kCropWarps) {
    const int at = needed + task / kGroup, c = task % kGroup;
    const int low = layout.shared ? at : row_lower[at / 2];
    const int pixel_row = layout.shared ? at : min(low + at % 2, image_height - 1);
    const int slot = layout.shared ? at % layout.slots : 2 * (at / 2 % layout.pass) + at % 2;
    const ImageRow<Real> row = {
        pixels + c * params.image_strides[1] + pixel_row * params.image_strides[2],
        static_cast<int>(params.image_strides[3]), static_cast<int>(params.image_width)};
    resample_row<Memory::kStaged>(thread, row, samples, buffer,
                                  ring + (slot * kGroup + c) * layout.pitch);
  }
}

}  // namespace fvfast::cuda
