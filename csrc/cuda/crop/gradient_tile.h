// How an image's gradient is cut into tiles, crops into pieces, and the work on a tile into parts.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kTileRows = 8;
constexpr int kTileColumns = 64;  // a thread for each, and for each channel of a group
constexpr int kPieceRows = 16;
constexpr int kPieceColumns = kTileColumns;
// A row of a piece, in whole sectors of 16 elements or less, has this at most.
constexpr int kRawPitch = kPieceColumns + 16;

// Blocks that a multiprocessor has registers for: 64 of a thread, or a few more where those would
// not do.
template <typename Real, typename Element, int kGroup>
constexpr int kGradientBlocks = (sizeof(Real) == 8                                       ? 8
                                 : sizeof(typename Element::Storage) == 2 || kGroup != 3 ? 14
                                                                                         : 16) /
                                kGroup;

// How a launch covers the images.
struct GradientTiling {
  unsigned column_tiles, tiles;
  unsigned parts;        // among which the strips of each tile are dealt: see strips.h
  unsigned block_parts;  // that a block has: one, or all of them
  unsigned looks;        // at kCropsPerLook boxes each
  int64_t pixels;        // of all images; so far apart lie the sums of parts in scratch memory
  int64_t first_group;   // of channels, and of images: those of the blocks (., 0, 0)
  int64_t first_image;
  bool interleaved;  // the channels of a group follow one another in memory, column by column
  int align;  // elements at multiples of which packs of 16 bytes start; 0: rows have no packs
};

// A thread of a block of kTileColumns x kGroup.
struct TileThread {
  int column, channel;
  int index;  // in the block
  int lane;   // in the warp

  // With one channel, that needs no register.
  __device__ __forceinline__ explicit TileThread(int group)
      : column(static_cast<int>(threadIdx.x)),
        channel(group == 1 ? 0 : static_cast<int>(threadIdx.y)),
        index(channel * kTileColumns + column),
        lane(column % kWarp) {}
};

// The first part of a block that has not got a cluster. Not kept, since it would fill a register.
__device__ __forceinline__ int first_part_of(const GradientTiling& tiling) {
  return static_cast<int>(blockIdx.x / tiling.tiles);
}

// A tile, and the group of channels of an image in which it lies.
template <int kGroup>
struct GradientTile {
  int first_pixel, first_row;
  int64_t first_channel, image;

  __device__ __forceinline__ GradientTile(const GradientTiling& tiling, unsigned tile) {
    first_pixel = static_cast<int>(tile % tiling.column_tiles) * kTileColumns;
    first_row = static_cast<int>(tile / tiling.column_tiles) * kTileRows;
    first_channel = (tiling.first_group + blockIdx.y) * kGroup;
    image = tiling.first_image + blockIdx.z;
  }
};

// The pixels whose sums a thread has: half of the rows of two columns. The lanes that read blended
// columns together have four columns and both halves.
struct OwnPixels {
  int half;    // of the rows
  int column;  // and column + kWarp

  __device__ __forceinline__ explicit OwnPixels(const TileThread& thread)
      : half(thread.lane >> 2 & 1),
        column((thread.column / kWarp) * 16 + (thread.lane >> 3) * 4 + (thread.lane & 3)) {}
};

}  // namespace fvfast::cuda
