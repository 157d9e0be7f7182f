// The sums of a block: along y, from a staged piece to blended columns; along x, from those to
// pixels.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/crop/sample_lists.h"
#include "cuda/crop/stage.h"
#include "cuda/packs.h"

namespace fvfast::cuda {

// Rows 0 to 3 and 4 to 7 of a blended column lie half of the banks apart.
constexpr int kBlendedPitch = kPieceColumns + 4;
// And so do eight lanes that have the channels of two or three columns.
template <int kGroup>
constexpr int kBlendedChannel = 2 * kBlendedPitch + (kGroup == 3 ? 3 : 2);

// The column of a crop that a thread blends along y. Lanes without one do what the last one does.
// Neighboring lanes have neighboring columns, or a column's channels where `mixed`.
template <int kGroup>
struct BlendedColumn {
  int column, channel;
  int present;       // the column, or the last one
  bool any_in_warp;  // whether a lane of the warp has a column

  __device__ __forceinline__ BlendedColumn(const TileThread& thread, bool mixed, int count) {
    column = mixed ? thread.index / kGroup : thread.column;
    channel = mixed ? thread.index % kGroup : thread.channel;
    any_in_warp =
        (mixed ? (thread.index - thread.lane) / kGroup : thread.column - thread.lane) < count;
    present = min(column, count - 1);
  }
};

// Whether neighboring lanes should have a column's channels: where these are interleaved, unless
// lanes with neighboring columns meet different banks all the same, as with three words a column.
template <int kGroup, typename RawType>
__device__ __forceinline__ bool mixes_channels(bool interleaved) {
  return kGroup > 1 && interleaved && (kGroup == 4 || sizeof(RawType) < 4);
}

// Adds the rows of a piece that read each row of the tile, of one column from `from` on.
template <typename Element, typename Real>
__device__ __forceinline__ void add_rows(const typename Raw<Element, Real>::Type* from,
                                         int row_stride, const SampleLists<Real>& rows,
                                         Real (&sums)[kTileRows]) {
  FVFAST_UNROLL
  for (int list = 0; list <= kTileRows; ++list) {
    const int end = rows.end[list];
#pragma unroll 1
    for (int y = rows.begin[list]; y < end; ++y) {
      const Real value = Raw<Element, Real>::value_of(from[y * row_stride]);
      const Real share = rows.share[y];
      if (list > 0) sums[list - 1] += (Real(1) - share) * value;
      if (list < kTileRows) sums[list] += share * value;
    }
  }
}

template <typename Real>
__device__ __forceinline__ void store_column(const Real (&sums)[kTileRows], Real* to) {
  const Real low[4] = {sums[0], sums[1], sums[2], sums[3]};
  const Real high[4] = {sums[4], sums[5], sums[6], sums[7]};
  store_four(low, to);
  store_four(high, to + kBlendedPitch * 4);
}

// sum += weight * four numbers, if they count; otherwise they may be anything, even NaN.
template <typename Real>
__device__ void add_weighted(Real weight, bool counts, const Real* from, Real (&sum)[4]) {
  Real values[4];
  load_four(from, values);
  FVFAST_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (counts) sum[i] += weight * values[i];
  }
}

// Along x where three samples at most read a pixel: a lane has two pixels.
template <typename Real>
__device__ __forceinline__ void gather_sparse(const Real* blended, int own,
                                              const SampleLists<Real>& columns,
                                              Real (&sums)[2][4]) {
  FVFAST_UNROLL
  for (int other = 0; other < 2; ++other) {
    const int pixel = own + other * kWarp;
    const int before = columns.begin[pixel], after = columns.begin[pixel + 1];
    const int shares = columns.end[pixel] - before;
    const int readers = shares + columns.end[pixel + 1] - after;
    FVFAST_UNROLL
    for (int i = 0; i < 3; ++i) {
      // Lanes that have no more readers do the last one again, with no weight.
      const int reader = max(min(i, readers - 1), 0);
      const bool first = reader < shares;
      const int x = first ? before + reader : after + reader - shares;
      const Real share = columns.share[x];
      add_weighted(first ? share : Real(1) - share, i < readers, blended + x * 4, sums[other]);
    }
  }
}

// Along x where many samples read a pixel: four lanes share one. They read neighboring samples, so
// that they meet different banks however many samples lie between the pixels.
template <typename Real>
__device__ __forceinline__ void gather_many(const Real* blended, int own, int lane,
                                            const SampleLists<Real>& columns, Real (&sums)[2][4]) {
  FVFAST_UNROLL
  for (int other = 0; other < 2; ++other) {
#pragma unroll 1
    for (int mate = 0; mate < 4; ++mate) {
      const int pixel = own - (lane & 3) + mate + other * kWarp;
      Real partial[4] = {};
      FVFAST_UNROLL
      for (int next = 0; next < 2; ++next) {
        const int end = columns.end[pixel + next];
#pragma unroll 1
        for (int first = columns.begin[pixel + next]; first < end; first += 4) {
          const int x = first + (lane & 3), present = min(x, end - 1);
          const Real share = columns.share[present];
          add_weighted(next == 0 ? share : Real(1) - share, x < end, blended + present * 4,
                       partial);
        }
      }
      FVFAST_UNROLL
      for (int i = 0; i < 4; ++i) {
        partial[i] += __shfl_xor_sync(0xffffffffu, partial[i], 1);
        partial[i] += __shfl_xor_sync(0xffffffffu, partial[i], 2);
        if ((lane & 3) == mate) sums[other][i] += partial[i];
      }
    }
  }
}

}  // namespace fvfast::cuda
