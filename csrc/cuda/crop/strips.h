// How the work on a tile is dealt to parts, which blocks have.
//
// A strip is a piece of the columns of a crop that reach the tile, with all the rows that do. The
// strips of all crops, in the order of crops and columns, are dealt to the parts in turn, and the
// sums of the parts are added up in order. So the bits depend on the boxes of the image and on the
// number of parts, but not on how many parts a block has. To deal crops would be less even: a
// small box may have all its columns in one tile, a large one has a fifth of them there.
#pragma once

#include "cuda/crop/gradient_tile.h"
#include "cuda/crop/reach.h"
#include "cuda/crop/stage.h"

namespace fvfast::cuda {

// A piece of a strip of one part: the pieces of the part follow one another.
struct StripPiece {
  unsigned rest;  // the boxes of this look that reach the tile, from that of the strip on
  int strip;      // its number among those of its crop, or of the crops that are still to come
  int top;        // the first row
  int strips;     // of this part that have begun so far

  // Before the first look at boxes.
  __device__ __forceinline__ explicit StripPiece(int part)
      : rest(0), strip(part), top(0), strips(0) {}

  __device__ __forceinline__ bool exists() const { return rest != 0; }
  __device__ __forceinline__ int box() const { return __ffs(static_cast<int>(rest)) - 1; }

  // Begins with the boxes of a look.
  __device__ __forceinline__ void begin(const BoxLook& look) {
    rest = look.reaching[0] & look.reaching[1];
    find_strip(look);
  }

  __device__ __forceinline__ void advance(const BoxLook& look, int parts) {
    const Reach& rows = look.row_reach[box()];
    top += rows.piece;
    if (top < rows.end) return;
    strip += parts;
    find_strip(look);
  }

  __device__ __forceinline__ bool opens_strip(const BoxLook& look) const {
    return top == look.row_reach[box()].begin;
  }

  __device__ __forceinline__ PieceRange range(const BoxLook& look) const {
    const Reach &rows = look.row_reach[box()], &columns = look.column_reach[box()];
    const int left = columns.begin + strip * columns.piece;
    return {left, min(columns.piece, columns.end - left), top, min(rows.piece, rows.end - top)};
  }

  // The number of strips of all parts, at the end of this `part`, whose number it began with.
  __device__ __forceinline__ int strips_of_all(int part, const GradientTiling& tiling) const {
    return part + strips * static_cast<int>(tiling.parts) - strip;
  }

 private:
  __device__ __forceinline__ void find_strip(const BoxLook& look) {
    while (rest != 0) {
      const int crop_strips = look.column_reach[box()].pieces;
      if (strip < crop_strips) {
        top = look.row_reach[box()].begin;
        ++strips;
        return;
      }
      strip -= crop_strips;
      rest &= rest - 1;
    }
  }
};

}  // namespace fvfast::cuda
