// Staging the gradient of a piece of a crop in shared memory: 16 bytes at a time and without
// waiting, where rows allow. Elements keep their type on the way, unless it is wider than the
// arithmetic's.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>
#include <type_traits>

#include "common/macros.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

// What is staged of an element.
template <typename Element, typename Real>
struct Raw {
  using Storage = typename Element::Storage;
  static constexpr bool kCopied = sizeof(Storage) <= sizeof(Real);
  using Type = std::conditional_t<kCopied, Storage, Real>;

  static __device__ __forceinline__ Type from(Storage element) {
    if constexpr (kCopied) {
      return element;
    } else {
      return static_cast<Real>(Element::load(element));
    }
  }

  static __device__ __forceinline__ Real value_of(Type raw) {
    if constexpr (kCopied) {
      return static_cast<Real>(Element::load(raw));
    } else {
      return raw;
    }
  }
};

// The piece of a crop that is staged: columns [left, left + count) of rows [top, top + band).
struct PieceRange {
  int left, count;
  int top, band;
};

// The elements of a row of a piece, or the packs of them: from `start`, which may lie before the
// piece.
struct PieceRow {
  int start;
  int step;  // elements of each
  int count;

  // Of the channels of a pixel too, where they are interleaved.
  template <typename Element, int kGroup, bool kCopied>
  __device__ __forceinline__ static PieceRow of(const GradientTiling& tiling, int left, int count) {
    const int per_column = tiling.interleaved ? kGroup : 1;
    const int first = left * per_column, last = (left + count) * per_column;
    const int align = kCopied ? max(tiling.align, 1) : 1;
    PieceRow row;
    row.step = kCopied && tiling.align > 0 ? kPack<Element> : 1;
    row.start = first / align * align;
    row.count = (last - row.start + align - 1) / align * (align / row.step);
    return row;
  }
};

// How a piece lies in shared memory.
struct Piece {
  int first;                 // its first element
  int column, row, channel;  // from one to the next

  template <typename Element, int kGroup, bool kCopied>
  __device__ __forceinline__ static Piece of(const GradientTiling& tiling,
                                             const PieceRange& range) {
    const PieceRow row = PieceRow::of<Element, kGroup, kCopied>(tiling, range.left, range.count);
    const int per_column = tiling.interleaved ? kGroup : 1;
    const int length = row.count * row.step;
    return {range.left * per_column - row.start, per_column, length,
            tiling.interleaved ? 1 : range.band * length};
  }
};

// Where the packs, or the elements, of a piece lie in global memory. They are numbered line by
// line, channel by channel.
struct PieceSource {
  PieceRow row;
  int total;
  int band, top;
  float lines_per, planes_per;  // reciprocals
  bool interleaved;

  template <typename Element, int kGroup, bool kCopied>
  __device__ __forceinline__ static PieceSource of(const GradientTiling& tiling,
                                                   const PieceRange& range) {
    PieceSource source;
    source.row = PieceRow::of<Element, kGroup, kCopied>(tiling, range.left, range.count);
    source.total = source.row.count * range.band * (tiling.interleaved ? 1 : kGroup);
    source.band = range.band;
    source.top = range.top;
    source.lines_per = __fdividef(1.0f, static_cast<float>(source.row.count));
    source.planes_per = __fdividef(1.0f, static_cast<float>(range.band));
    source.interleaved = tiling.interleaved;
    return source;
  }

  __device__ __forceinline__ int64_t offset_of(const CropGradientParams& params, int i) const {
    const int line = quotient(i, lines_per);
    const int plane = quotient(line, planes_per), y = line - plane * band;
    const int x = row.start + (i - line * row.count) * row.step;
    const int64_t along = interleaved ? x : x * params.gradient_strides[4];
    return plane * params.gradient_strides[2] + (top + y) * params.gradient_strides[3] + along;
  }

  // i / divisor for small whole numbers: adding one half makes up for rounding.
  __device__ __forceinline__ static int quotient(int i, float reciprocal) {
    return static_cast<int>((static_cast<float>(i) + 0.5f) * reciprocal);
  }
};

constexpr int kLoadsAtOnce = 2;

template <typename Element, int kThreads, typename Real>
__device__ __forceinline__ void stage_elements(const CropGradientParams& params, int thread,
                                               const PieceSource& source,
                                               const typename Element::Storage* gradient,
                                               typename Raw<Element, Real>::Type* raw) {
#pragma unroll 1
  for (int i = thread; i < source.total; i += kLoadsAtOnce * kThreads) {
    typename Raw<Element, Real>::Type values[kLoadsAtOnce];
    FVFAST_UNROLL
    for (int k = 0; k < kLoadsAtOnce; ++k) {
      const int at = i + k * kThreads;
      if (at < source.total) {
        values[k] = Raw<Element, Real>::from(gradient[source.offset_of(params, at)]);
      }
    }
    FVFAST_UNROLL
    for (int k = 0; k < kLoadsAtOnce; ++k) {
      const int at = i + k * kThreads;
      if (at < source.total) raw[at] = values[k];
    }
  }
}

// Begins to stage a piece of a crop's channels, of which `gradient` is the first. It has arrived
// after wait_for_pieces() and a barrier.
template <typename Element, int kGroup, typename Real>
__device__ __forceinline__ void stage(const CropGradientParams& params,
                                      const GradientTiling& tiling, const TileThread& thread,
                                      const typename Element::Storage* gradient,
                                      const PieceRange& range,
                                      typename Raw<Element, Real>::Type* raw) {
  constexpr int kThreads = kTileColumns * kGroup;
  constexpr bool kCopied = Raw<Element, Real>::kCopied;
  const PieceSource source = PieceSource::of<Element, kGroup, kCopied>(tiling, range);
  if constexpr (kCopied) {
    if (tiling.align > 0) {
      // The packs follow one another in shared memory, so that neighboring lanes meet different
      // banks.
      for (int i = thread.index; i < source.total; i += kThreads) {
        __pipeline_memcpy_async(raw + i * kPack<Element>, gradient + source.offset_of(params, i),
                                16);
      }
      __pipeline_commit();
      return;
    }
  }
  stage_elements<Element, kThreads, Real>(params, thread.index, source, gradient, raw);
}

__device__ __forceinline__ void wait_for_pieces() { __pipeline_wait_prior(0); }

}  // namespace fvfast::cuda
