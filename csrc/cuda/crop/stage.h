// Staging the gradient of a piece of a crop in shared memory, 16 bytes at a time where rows allow.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

// Stores the elements of 16 bytes. Where there are eight, a lane writes twice: every other group of
// four lanes starts with the second half, so that eight lanes meet different banks.
template <typename Real, int count>
__device__ void store_pack(const Real (&values)[count], Real* to) {
  if constexpr (count == 8) {
    // If this were unrolled, the compiler would see that both orders write the same, and keep one.
#pragma unroll 1
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned half = (i ^ threadIdx.x >> 2) & 1;
      Real four[4];
      FVFAST_UNROLL
      for (int k = 0; k < 4; ++k) four[k] = half == 0 ? values[k] : values[4 + k];
      store_four(four, to + 4 * half);
    }
  } else if constexpr (count == 4) {
    store_four(values, to);
  } else {
    for (int i = 0; i < count; ++i) to[i] = values[i];
  }
}

// How a piece lies in shared memory.
struct Piece {
  int first;                 // its first element
  int column, row, channel;  // from one to the next
};

// The piece of a crop that is staged: columns [left, left + count) of rows [top, top + band).
struct PieceRange {
  int left, count;
  int top, band;
};

// Where the packs, or the elements, of a piece lie in global memory. They are numbered line by
// line, channel by channel; each has `step` elements.
struct PieceSource {
  int start;  // the first element of a line, which belongs to the piece or to the same pack
  int step;
  int per_line;
  int total;
  int band, top;
  float lines_per, planes_per;  // reciprocals
  bool interleaved;

  template <typename Element, int kGroup>
  __device__ __forceinline__ static PieceSource of(const GradientTiling& tiling,
                                                   const PieceRange& range) {
    const int per_column = tiling.interleaved ? kGroup : 1;
    const int first = range.left * per_column, last = (range.left + range.count) * per_column;
    const int align = max(tiling.align, 1);
    PieceSource source;
    source.step = tiling.align > 0 ? kPack<Element> : 1;
    source.start = first / align * align;
    source.per_line = (last - source.start + align - 1) / align * (align / source.step);
    source.total = source.per_line * range.band * (tiling.interleaved ? 1 : kGroup);
    source.band = range.band;
    source.top = range.top;
    source.lines_per = __fdividef(1.0f, static_cast<float>(source.per_line));
    source.planes_per = __fdividef(1.0f, static_cast<float>(range.band));
    source.interleaved = tiling.interleaved;
    return source;
  }

  __device__ __forceinline__ int64_t offset_of(const CropGradientParams& params, int i) const {
    const int line = quotient(i, lines_per);
    const int plane = quotient(line, planes_per), y = line - plane * band;
    const int x = start + (i - line * per_line) * step;
    const int64_t along = interleaved ? x : x * params.gradient_strides[4];
    return plane * params.gradient_strides[2] + (top + y) * params.gradient_strides[3] + along;
  }

  // i / divisor for small whole numbers: adding one half makes up for rounding.
  __device__ __forceinline__ static int quotient(int i, float reciprocal) {
    return static_cast<int>((static_cast<float>(i) + 0.5f) * reciprocal);
  }
};

constexpr int kLoadsAtOnce = 2;

// The packs follow one another in shared memory, so that neighboring lanes meet different banks.
template <typename Element, int kThreads, typename Real>
__device__ __forceinline__ void stage_packs(const CropGradientParams& params, int thread,
                                            const PieceSource& source,
                                            const typename Element::Storage* gradient, Real* raw) {
  constexpr int kPerPack = kPack<Element>;
#pragma unroll 1
  for (int i = thread; i < source.total; i += kLoadsAtOnce * kThreads) {
    uint4 packs[kLoadsAtOnce];
    FVFAST_UNROLL
    for (int k = 0; k < kLoadsAtOnce; ++k) {
      const int at = i + k * kThreads;
      if (at < source.total) {
        packs[k] = __ldg(reinterpret_cast<const uint4*>(gradient + source.offset_of(params, at)));
      }
    }
    FVFAST_UNROLL
    for (int k = 0; k < kLoadsAtOnce; ++k) {
      const int at = i + k * kThreads;
      if (at >= source.total) continue;
      const uint32_t words[4] = {packs[k].x, packs[k].y, packs[k].z, packs[k].w};
      Real values[kPerPack];
      unpack<Element>(words, values);
      store_pack(values, raw + at * kPerPack);
    }
  }
}

template <typename Element, int kThreads, typename Real>
__device__ __forceinline__ void stage_elements(const CropGradientParams& params, int thread,
                                               const PieceSource& source,
                                               const typename Element::Storage* gradient,
                                               Real* raw) {
#pragma unroll 1
  for (int i = thread; i < source.total; i += kLoadsAtOnce * kThreads) {
    Real values[kLoadsAtOnce];
    FVFAST_UNROLL
    for (int k = 0; k < kLoadsAtOnce; ++k) {
      const int at = i + k * kThreads;
      if (at < source.total) {
        values[k] = static_cast<Real>(Element::load(gradient[source.offset_of(params, at)]));
      }
    }
    FVFAST_UNROLL
    for (int k = 0; k < kLoadsAtOnce; ++k) {
      const int at = i + k * kThreads;
      if (at < source.total) raw[at] = values[k];
    }
  }
}

// Stages a piece of a crop's channels, of which `gradient` is the first.
template <typename Element, int kGroup, typename Real>
__device__ __forceinline__ Piece stage(const CropGradientParams& params,
                                       const GradientTiling& tiling, const TileThread& thread,
                                       const typename Element::Storage* gradient,
                                       const PieceRange& range, Real* raw) {
  constexpr int kThreads = kTileColumns * kGroup;
  const PieceSource source = PieceSource::of<Element, kGroup>(tiling, range);
  if (tiling.align > 0) {
    stage_packs<Element, kThreads>(params, thread.index, source, gradient, raw);
  } else {
    stage_elements<Element, kThreads>(params, thread.index, source, gradient, raw);
  }
  const int per_column = tiling.interleaved ? kGroup : 1;
  const int row = source.per_line * source.step;
  return {range.left * per_column - source.start, per_column, row,
          tiling.interleaved ? 1 : range.band * row};
}

}  // namespace fvfast::cuda
