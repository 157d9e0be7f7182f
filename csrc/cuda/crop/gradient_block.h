// What a block adds up of an image's gradient: the contributions of the strips of one part to a
// tile, in order.
#pragma once

#include <cstdint>

#include "common/bilinear.h"
#include "common/macros.h"
#include "cuda/crop/gather.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/crop/reach.h"
#include "cuda/crop/sample_lists.h"
#include "cuda/crop/stage.h"
#include "cuda/crop/strips.h"
#include "ops.h"

namespace fvfast::cuda {

// A piece that is being staged, or blended. It lies in shared memory, because registers are few.
struct StartedPiece {
  PieceRange range;
  int box;     // of the look
  int strip;   // its number among those of the part
  int opens;   // whether it is the first of its strip
  int sparse;  // whether few columns read the same pixel
};

// Shared memory of a block, with `kStages` pieces of crops: one is blended while the others arrive.
template <typename Real, typename Element, int kGroup, int kStages>
struct GradientMemory {
  using RawType = typename Raw<Element, Real>::Type;
  static constexpr int kRaw = kGroup * kPieceRows * kRawPitch;  // elements of a piece
  static constexpr int kLists = kTileColumns + 2;

  RawType* raw;                         // (kStages, kRaw)
  Real* blended;                        // a strip, blended along y
  Real* row_share;                      // (kStages, kPieceRows)
  uint16_t *row_begin, *row_end;        // (kStages, kTileRows + 2)
  Real* column_share;                   // (2, kPieceColumns): of a strip and the next one
  int* column_list;                     // (2, kPieceColumns)
  uint16_t *column_begin, *column_end;  // (2, kLists)
  StartedPiece* started;                // (2,): the piece that is blended, and the next one
  BoxLook boxes;

  __device__ __forceinline__ SampleLists<Real> rows(int stage) const {
    return {row_share + stage * kPieceRows, row_begin + stage * (kTileRows + 2),
            row_end + stage * (kTileRows + 2)};
  }
  __device__ __forceinline__ SampleLists<Real> columns(int strip) const {
    const int which = strip & 1;
    return {column_share + which * kPieceColumns, column_begin + which * kLists,
            column_end + which * kLists};
  }
  __device__ __forceinline__ int* lists_of_columns(int strip) const {
    return column_list + (strip & 1) * kPieceColumns;
  }
};

// Two pieces, where that leaves room in 48 KiB for all else.
template <typename Real, typename Element, int kGroup>
constexpr int kGradientStages = 2 * GradientMemory<Real, Element, kGroup, 2>::kRaw *
                                            int{sizeof(typename Raw<Element, Real>::Type)} <=
                                        32 * 1024
                                    ? 2
                                    : 1;

template <typename Real, typename Element, int kGroup, int kStages>
__device__ __forceinline__ GradientMemory<Real, Element, kGroup, kStages> gradient_memory() {
  using Memory = GradientMemory<Real, Element, kGroup, kStages>;
  using RawType = typename Memory::RawType;
  __shared__ alignas(16) RawType raw[kStages * Memory::kRaw];
  __shared__ alignas(16) Real blended[kGroup * kBlendedChannel<kGroup> * 4];
  __shared__ Real row_share[kStages * kPieceRows];
  __shared__ Real column_share[2 * kPieceColumns];
  __shared__ int column_list[2 * kPieceColumns];
  __shared__ uint16_t row_begin[kStages * (kTileRows + 2)], row_end[kStages * (kTileRows + 2)];
  __shared__ uint16_t column_begin[2 * Memory::kLists], column_end[2 * Memory::kLists];
  __shared__ StartedPiece started[2];
  __shared__ Reach row_reach[kCropsPerLook], column_reach[kCropsPerLook];
  __shared__ PaddedAxis row_axis[kCropsPerLook], column_axis[kCropsPerLook];
  __shared__ Question questions[2];  // not in registers, which they would fill all the time
  __shared__ unsigned reaching[2];
  return {raw,
          blended,
          row_share,
          row_begin,
          row_end,
          column_share,
          column_list,
          column_begin,
          column_end,
          started,
          {row_axis, column_axis, row_reach, column_reach, questions, reaching}};
}

// Lists the samples of a piece and begins to stage it, as the one of this `turn`, 0 or 1.
template <typename Real, typename Element, int kGroup, int kStages>
__device__ __forceinline__ void start_piece(
    const CropGradientParams& params, const GradientTiling& tiling, const TileThread& thread,
    const GradientTile<kGroup>& tile, const GradientMemory<Real, Element, kGroup, kStages>& memory,
    unsigned look, const StripPiece& piece, int turn) {
  const int box = piece.box(), buffer = turn % kStages;
  const PieceRange range = piece.range(memory.boxes);
  const bool opens = piece.opens_strip(memory.boxes);
  const typename Element::Storage* gradient =
      static_cast<const typename Element::Storage*>(params.gradient) +
      tile.image * params.gradient_strides[0] +
      (int64_t{look} * kCropsPerLook + box) * params.gradient_strides[1] +
      tile.first_channel * params.gradient_strides[2];
  stage<Element, kGroup, Real>(params, tiling, thread, gradient, range,
                               memory.raw + buffer * memory.kRaw);
  if (thread.index == 0) {
    memory.started[turn] = {range, box, piece.strips, opens, memory.boxes.column_reach[box].sparse};
  }
  if (thread.channel == 0 && opens) {
    find_column_lists(memory.boxes.column_axis[box].axis, thread.column, range.left, range.count,
                      tile.first_pixel, memory.lists_of_columns(piece.strips),
                      memory.columns(piece.strips));
  }
  if (thread.index >= kTileColumns * kGroup - kWarp) {
    list_rows(memory.boxes.row_axis[box].axis, thread.lane, range.top, range.band, tile.first_row,
              memory.rows(buffer));
  }
}

// Blends a piece that has arrived along y, of which `from` is the first element. The sums of a
// column go to memory.blended at the end of its strip.
template <typename Real, typename Element, int kGroup, int kStages>
__device__ __forceinline__ void blend_piece(
    const GradientTiling& tiling, const TileThread& thread,
    const GradientMemory<Real, Element, kGroup, kStages>& memory, int turn, bool ends_strip,
    Real (&column_sums)[kTileRows]) {
  using RawElement = Raw<Element, Real>;
  const StartedPiece& piece = memory.started[turn];
  const int count = piece.range.count;
  if (thread.channel == 0 && piece.opens && thread.column < count) {
    enter_column(thread.column, count, memory.lists_of_columns(piece.strip),
                 memory.columns(piece.strip));
  }
  const BlendedColumn<kGroup> mine(
      thread, mixes_channels<kGroup, typename RawElement::Type>(tiling.interleaved), count);
  if (!mine.any_in_warp) return;
  const Piece place = Piece::of<Element, kGroup, RawElement::kCopied>(tiling, piece.range);
  const int buffer = turn % kStages;
  add_rows<Element>(memory.raw + buffer * memory.kRaw + place.first + mine.present * place.column +
                        mine.channel * place.channel,
                    place.row, memory.rows(buffer), column_sums);
  if (!ends_strip) return;
  store_column(column_sums,
               memory.blended + (mine.channel * kBlendedChannel<kGroup> + mine.column) * 4);
  FVFAST_UNROLL
  for (int i = 0; i < kTileRows; ++i) column_sums[i] = 0;
}

// Adds up the strips of a part among the boxes of a look, of which `piece` is the first piece. A
// barrier must lie before it, and another one before the next look or part.
template <typename Real, typename Element, int kGroup, int kStages>
__device__ __forceinline__ void add_strips(
    const CropGradientParams& params, const GradientTiling& tiling, const TileThread& thread,
    const GradientTile<kGroup>& tile, const GradientMemory<Real, Element, kGroup, kStages>& memory,
    unsigned look, StripPiece& piece, Real (&sums)[2][4]) {
  const auto start = [&](int turn) {
    if (piece.exists()) {
      start_piece(params, tiling, thread, tile, memory, look, piece, turn);
    }
  };
  Real column_sums[kTileRows] = {};
  int turn = 0;
  start(turn);
  while (piece.exists()) {
    piece.advance(memory.boxes, static_cast<int>(tiling.parts));
    wait_for_pieces();
    __syncthreads();  // the piece has arrived, and nobody reads the one before any more
    if (kStages > 1) start(turn ^ 1);
    const int strip = memory.started[turn].strip;
    const bool ends_strip = piece.strips != strip || !piece.exists();
    blend_piece(tiling, thread, memory, turn, ends_strip, column_sums);
    if (kStages == 1 || ends_strip) __syncthreads();
    if (kStages == 1) start(turn ^ 1);
    if (ends_strip) {
      const OwnPixels own(thread);
      const Real* from = memory.blended +
                         (thread.channel * kBlendedChannel<kGroup> + own.half * kBlendedPitch) * 4;
      if (memory.started[turn].sparse) {
        gather_sparse(from, own.column, memory.columns(strip), sums);
      } else {
        gather_many(from, own.column, thread.lane, memory.columns(strip), sums);
      }
    }
    turn ^= 1;
  }
}

}  // namespace fvfast::cuda
