// How crops are cut into tiles, one for a block, and the shared memory that a block has.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kCropThreads = 256;
constexpr int kCropWarps = kCropThreads / kWarp;
constexpr int kCropPixels = 4096;  // of a block; half of it where it has several channels
constexpr int kCropRows = 64;      // of a block, at most
constexpr int kUnit = 4 * kWarp;   // pixels that a warp makes at once

// Shared memory of a block for `kGroup` channels.
template <typename Real, typename Element, int kGroup>
struct CropMemory {
  static constexpr int kRing = (kGroup == 1   ? 12
                                : kGroup == 3 ? 16
                                              : 20) *
                               1024 / static_cast<int>(sizeof(Real));
  static constexpr int kSlots = 4;  // rows of the ring, at least
  // A row has a margin of one column in kTurn, for lanes that have no column in the last turn.
  static constexpr int kTurn = kWarp / 2;
  static constexpr int kColumns = kRing / (kSlots * kGroup) * kTurn / (kTurn + 1) / kUnit * kUnit;
  // Blocks that a multiprocessor has registers for.
  static constexpr int kBlocks = sizeof(Real) + sizeof(typename Element::Storage) > 8 || kGroup == 4
                                     ? 2
                                     : (kGroup == 1 ? 4 : 3);
  static constexpr int kOut = kUnit * kGroup * static_cast<int>(sizeof(typename Element::Storage));
  static constexpr int kBuffer = kOut > 1280 ? kOut : 1280;  // bytes of a warp
  static constexpr int kStaged = kBuffer / static_cast<int>(sizeof(Real));
};

// How the pixels of a crop are cut into tiles.
struct CropTiling {
  int columns;  // all of the crop, or a multiple of kUnit
  int rows;
  unsigned column_tiles;
  unsigned row_tiles;
  int64_t first_crop;  // that of the blocks (., 0, .)
  bool dense;          // the channels of a group and the pixels of a row are next to each other
  bool whole_rows;     // as are the rows of a tile
};

// The tile of this block: some rows and columns of kGroup channels of one crop.
template <int kGroup>
struct CropTile {
  int64_t first_row, first_column;
  int64_t channel;  // the first
  int64_t crop, image;
  int rows, columns;

  __device__ __forceinline__ CropTile(const CropParams& params, const CropTiling& tiling) {
    const unsigned column_tile = blockIdx.x / tiling.row_tiles;
    first_row = int64_t{blockIdx.x % tiling.row_tiles} * tiling.rows;
    first_column = int64_t{column_tile % tiling.column_tiles} * tiling.columns;
    channel = int64_t{column_tile / tiling.column_tiles} * kGroup;
    crop = tiling.first_crop + blockIdx.y;
    image = blockIdx.z;
    rows = static_cast<int>(min(params.height - first_row, int64_t{tiling.rows}));
    columns = static_cast<int>(min(params.width - first_column, int64_t{tiling.columns}));
  }

  // Where the tile lies, in elements: its first channel in the images, its first element in the
  // crops.
  __device__ __forceinline__ int64_t image_offset(const CropParams& params) const {
    return image * params.image_strides[0] + channel * params.image_strides[1];
  }

  __device__ __forceinline__ int64_t out_offset(const CropParams& params) const {
    return image * params.out_strides[0] + crop * params.out_strides[1] +
           channel * params.out_strides[2] + first_row * params.out_strides[3] +
           first_column * params.out_strides[4];
  }

  // The number of the tile's first element, which determines its noise.
  __device__ __forceinline__ int64_t first_element(const CropParams& params) const {
    const int64_t plane = params.height * params.width;
    return (crop * params.channels + channel) * plane + first_row * params.width + first_column;
  }
};

}  // namespace fvfast::cuda
