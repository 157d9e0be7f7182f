// The gradient of cropping with respect to the image, as a gather: a block adds up the
// contributions of all crops to a tile of the image, in a fixed order. There are no atomics, and
// the bits are the same in every run. Where there are few tiles, a block has a part of the crops
// (gradient_tile.h), and another kernel adds up the parts.
//
// Like the crop it is separable. For each box that reaches the tile (reach.h), in pieces of a crop:
//
//   - the gradient of the piece is staged in shared memory, 16 bytes at a time (stage.h);
//   - along y, a thread has a column of the crop: it blends the rows of the crop that read each row
//     of the tile (sample_lists.h, gather.h);
//   - along x, a thread has columns of the image: it adds the columns of the crop that read them to
//     sums in registers, which are written once, at the end (gather.h).
//
// Traffic: the image's gradient and the transparency once. The gradient of a crop once, except for
// samples between two tiles, which both need: 9/8 of the rows, and a sector at each end of a row.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/bilinear.h"
#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/crop/gather.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/crop/reach.h"
#include "cuda/crop/sample_lists.h"
#include "cuda/crop/stage.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kAddThreads = 256;

// The crops of a part, of those that a block looks at together.
__device__ __forceinline__ unsigned crops_of_part(unsigned part) {
  static_assert(kCropsPerLook == 32 && kGradientParts == 4, "every fourth bit of 32");
  return 0x11111111u << part;
}

// While boxes are looked at, which takes many registers, the sums lie in shared memory.
template <int kThreads, typename Real>
__device__ __forceinline__ void park(const Real (&sums)[2][4], int thread, Real* parked) {
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) parked[i * kThreads + thread] = sums[i / 4][i % 4];
}

template <int kThreads, typename Real>
__device__ __forceinline__ void take_back(const Real* parked, int thread, Real (&sums)[2][4]) {
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) sums[i / 4][i % 4] = parked[i * kThreads + thread];
}

// Adds the sums of a part to those of the parts before it, and begins the next part.
template <int kThreads, typename Real>
__device__ __forceinline__ void add_part(bool is_first, int thread, Real (&sums)[2][4],
                                         Real* totals) {
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) {
    Real* total = totals + i * kThreads + thread;
    *total = is_first ? sums[i / 4][i % 4] : *total + sums[i / 4][i % 4];
    sums[i / 4][i % 4] = 0;
  }
}

template <typename Real>
__device__ __forceinline__ void add_absolute(Real gradient, Real* transparency) {
  const Real absolute = std::fabs(gradient);
  if (std::isfinite(absolute)) *transparency += absolute;
}

// Writes the sums of a thread, and adds their absolute values to the transparency.
template <int kGroup, typename Real>
__device__ __forceinline__ void write_pixels(const CropGradientParams& params,
                                             const GradientTiling& tiling,
                                             const GradientTile<kGroup>& tile, int channel,
                                             const OwnPixels& own, const Real (&sums)[2][4]) {
  const int64_t plane = tile.image * params.channels + tile.first_channel + channel;
  const int first = tile.first_row + 4 * own.half;
  const int rows = static_cast<int>(min(params.image_height - first, int64_t{4}));
  FVFAST_UNROLL
  for (int other = 0; other < 2; ++other) {
    const int x = tile.first_pixel + own.column + other * kWarp;
    if (x >= params.image_width) continue;
    Real* image_gradient = static_cast<Real*>(params.image_gradient) +
                           first_part_of(tiling) * tiling.pixels +
                           (plane * params.image_height + first) * params.image_width + x;
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < rows) image_gradient[i * params.image_width] = sums[other][i];
    }
    if (params.transparency == nullptr) continue;
    Real* transparency =
        static_cast<Real*>(params.transparency) + tile.image * params.transparency_strides[0] +
        (tile.first_channel + channel) * params.transparency_strides[1] +
        first * params.transparency_strides[2] + x * params.transparency_strides[3];
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < rows) {
        add_absolute(sums[other][i], transparency + i * params.transparency_strides[2]);
      }
    }
  }
}

// Shared memory of a block.
template <typename Real>
struct GradientMemory {
  Real* raw;      // a piece of a crop, or sums that are parked
  Real* blended;  // its columns, blended along y
  SampleLists<Real> rows, columns;
  int* column_list;
  BoxLook boxes;
};

// Blends columns [left, left + count) of the rows of a crop that reach the tile, in pieces, to
// memory.blended. Lists the columns on the way. A barrier must follow.
template <typename Element, int kGroup, typename Real>
__device__ __forceinline__ void blend_along_y(
    const CropGradientParams& params, const GradientTiling& tiling, const TileThread& thread,
    const GradientTile<kGroup>& tile, const GradientMemory<Real>& memory, int candidate,
    const typename Element::Storage* gradient, int left, int count) {
  const Reach& rows = memory.boxes.row_reach[candidate];
  if (thread.channel == 0) {
    find_column_lists(memory.boxes.column_axis[candidate].axis, thread.column, left, count,
                      tile.first_pixel, memory.column_list, memory.columns);
  }
  const BlendedColumn<kGroup> mine(thread, tiling.interleaved, count);
  Real sums[kTileRows] = {};
  for (int top = rows.begin; top < rows.end; top += rows.piece) {
    const int band = min(rows.piece, rows.end - top);
    if (thread.index >= kTileColumns * kGroup - kWarp) {
      list_rows(memory.boxes.row_axis[candidate].axis, thread.lane, top, band, tile.first_row,
                memory.rows);
    }
    const Piece piece = stage<Element, kGroup>(params, tiling, thread, gradient,
                                               {left, count, top, band}, memory.raw);
    __syncthreads();
    if (thread.channel == 0 && top == rows.begin && thread.column < count) {
      enter_column(thread.column, count, memory.column_list, memory.columns);
    }
    if (mine.any_in_warp) {
      const Real* from =
          memory.raw + piece.first + mine.present * piece.column + mine.channel * piece.channel;
      add_rows(from, piece.row, memory.rows, sums);
    }
    if (top + rows.piece < rows.end) __syncthreads();
  }
  if (mine.any_in_warp) {
    store_column(sums, memory.blended + (mine.channel * kBlendedChannel + mine.column) * 4);
  }
}

template <typename Real, typename Element, int kGroup>
__global__ void __launch_bounds__(kTileColumns* kGroup, kGradientBlocks<Real, Element, kGroup>)
    crop_gradient_kernel(const CropGradientParams params, const GradientTiling tiling) {
  constexpr int kThreads = kTileColumns * kGroup;
  __shared__ alignas(16) Real raw[kGroup * kPieceRows * kRawPitch];
  __shared__ alignas(16) Real blended[kGroup * kBlendedChannel * 4];
  __shared__ Real totals[8 * kThreads];
  __shared__ Real row_share[kPieceRows];
  __shared__ Real column_share[kPieceColumns];
  __shared__ int column_list[kPieceColumns];
  __shared__ uint16_t row_begin[kTileRows + 2], row_end[kTileRows + 2];
  __shared__ uint16_t column_begin[kTileColumns + 2], column_end[kTileColumns + 2];
  __shared__ Reach row_reach[kCropsPerLook], column_reach[kCropsPerLook];
  __shared__ PaddedAxis row_axis[kCropsPerLook], column_axis[kCropsPerLook];
  __shared__ Question questions[2];  // not in registers, which they would fill all the time
  __shared__ unsigned reaching[2];
  static_assert(8 * kThreads <= kGroup * kPieceRows * kRawPitch, "there is room to park the sums");
  const GradientMemory<Real> memory = {
      raw,
      blended,
      {row_share, row_begin, row_end},
      {column_share, column_begin, column_end},
      column_list,
      {row_axis, column_axis, row_reach, column_reach, questions, reaching}};
  const TileThread thread;
  const GradientTile<kGroup> tile(tiling);
  const OwnPixels own(thread);

  Real sums[2][4] = {};
  park<kThreads>(sums, thread.index, raw);
  if (thread.index == 0) pose_questions(params, tile.first_row, tile.first_pixel, questions);
  // For each part, all looks. One counter takes one register.
  for (unsigned turn = 0; turn < tiling.turns; ++turn) {
    __syncthreads();
    if (turn == 0 || tiling.looks > 1) {
      look_at_boxes(params, thread, tile.image, int64_t{turn % tiling.looks} * kCropsPerLook,
                    memory.boxes);
    }
    __syncthreads();
    take_back<kThreads>(raw, thread.index, sums);
    __syncthreads();
    for (unsigned rest =
             reaching[0] & reaching[1] & crops_of_part(first_part_of(tiling) + turn / tiling.looks);
         rest != 0; rest &= rest - 1) {
      const int candidate = __ffs(static_cast<int>(rest)) - 1;
      const int64_t crop = int64_t{turn % tiling.looks} * kCropsPerLook + candidate;
      const Reach& columns = column_reach[candidate];
      const typename Element::Storage* gradient =
          static_cast<const typename Element::Storage*>(params.gradient) +
          tile.image * params.gradient_strides[0] + crop * params.gradient_strides[1] +
          tile.first_channel * params.gradient_strides[2];
      for (int left = columns.begin; left < columns.end; left += columns.piece) {
        const int count = min(columns.piece, columns.end - left);
        blend_along_y<Element, kGroup>(params, tiling, thread, tile, memory, candidate, gradient,
                                       left, count);
        __syncthreads();
        const Real* from =
            blended + (thread.channel * kBlendedChannel + own.half * kBlendedPitch) * 4;
        if (columns.sparse) {
          gather_sparse(from, own.column, memory.columns, sums);
        } else {
          gather_many(from, own.column, thread.lane, memory.columns, sums);
        }
        __syncthreads();
      }
    }
    if ((turn + 1) % tiling.looks == 0) {
      add_part<kThreads>(turn < tiling.looks, thread.index, sums, totals);
    }
    park<kThreads>(sums, thread.index, raw);
  }
  take_back<kThreads>(totals, thread.index, sums);
  write_pixels(params, tiling, tile, thread.channel, own, sums);
}

// Adds up the sums of the parts, (kGradientParts, planes, H, W), where blocks have one each.
template <typename Real>
__global__ void __launch_bounds__(kAddThreads)
    add_parts_kernel(const CropGradientParams params, const Real* parts, int64_t pixels,
                     int64_t first_plane) {
  const int64_t plane_pixels = params.image_height * params.image_width;
  const int64_t pixel = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  if (pixel >= plane_pixels) return;
  const int64_t plane = first_plane + blockIdx.y;
  const int64_t at = plane * plane_pixels + pixel;
  Real sum = parts[at];
  FVFAST_UNROLL
  for (int part = 1; part < kGradientParts; ++part) sum += parts[part * pixels + at];
  static_cast<Real*>(params.image_gradient)[at] = sum;
  if (params.transparency == nullptr) return;
  const int64_t image = plane / params.channels, channel = plane % params.channels;
  const int64_t row = pixel / params.image_width, column = pixel % params.image_width;
  add_absolute(sum,
               static_cast<Real*>(params.transparency) + image * params.transparency_strides[0] +
                   channel * params.transparency_strides[1] + row * params.transparency_strides[2] +
                   column * params.transparency_strides[3]);
}

// Whether each row of the gradient consists of whole groups of `elements`, aligned to `bytes`.
static bool has_packs(const CropGradientParams& params, bool interleaved, int64_t elements,
                      uintptr_t bytes) {
  const int64_t sizes[4] = {params.batch, params.crops, params.channels, params.height};
  const int64_t row = params.width * (interleaved ? params.channels : 1);
  bool packs = (interleaved || params.width == 1 || params.gradient_strides[4] == 1) &&
               row % elements == 0 && reinterpret_cast<uintptr_t>(params.gradient) % bytes == 0;
  for (int d = 0; d < 4; ++d) {
    if ((interleaved && d == 2) || sizes[d] == 1) continue;
    packs = packs && params.gradient_strides[d] % elements == 0;
  }
  return packs;
}

static int64_t tiles_of(const CropGradientParams& params) {
  return divided_up(params.image_width, kTileColumns) * divided_up(params.image_height, kTileRows);
}

static int64_t pixels_of(const CropGradientParams& params) {
  return params.batch * params.channels * params.image_height * params.image_width;
}

// Channels that a block has: three or four, others each by itself.
template <typename Real>
int64_t group_of(const CropGradientParams& params) {
  const bool together = params.channels == 3 || params.channels == 4;
  return sizeof(Real) == sizeof(float) && together ? params.channels : 1;
}

template <typename Real>
bool has_parts(const CropGradientParams& params) {
  const int64_t planes = params.batch * params.channels / group_of<Real>(params);
  return params.crops >= 2 * kGradientParts && tiles_of(params) * planes <= kFewGradientBlocks;
}

template <typename Real>
void launch_add_parts_kernel(const CropGradientParams& params, const Target& target) {
  const unsigned blocks =
      grid_x(divided_up(params.image_height * params.image_width, kAddThreads), "crop_gradient");
  const int64_t planes = params.batch * params.channels;
  for (int64_t first = 0; first < planes; first += kGridYz) {
    add_parts_kernel<Real>
        <<<dim3(blocks, grid_yz(planes - first)), kAddThreads, 0, stream_of(target)>>>(
            params, static_cast<const Real*>(params.scratch), pixels_of(params), first);
    check_launch("crop_gradient");
  }
}

template <typename Real, typename Element, int kGroup>
void launch_crop_gradient_kernel(CropGradientParams params, bool interleaved,
                                 const Target& target) {
  const bool in_parts = has_parts<Real>(params);
  GradientTiling tiling{};
  const int64_t blocks = tiles_of(params) * (in_parts ? kGradientParts : 1);
  const unsigned tiles = grid_x(blocks, "crop_gradient");
  tiling.tiles = static_cast<unsigned>(tiles_of(params));
  tiling.column_tiles = static_cast<unsigned>(divided_up(params.image_width, kTileColumns));
  tiling.looks = static_cast<unsigned>(divided_up(params.crops, kCropsPerLook));
  tiling.turns = tiling.looks * (in_parts ? 1 : kGradientParts);
  tiling.pixels = pixels_of(params);
  tiling.interleaved = interleaved;
  // Rows in whole sectors of 32 bytes are read by sectors, so that no two warps share one.
  tiling.align = has_packs(params, interleaved, 2 * kPack<Element>, 32) ? 2 * kPack<Element>
                 : has_packs(params, interleaved, kPack<Element>, 16)   ? kPack<Element>
                                                                        : 0;
  const CropGradientParams whole = params;
  if (in_parts) {
    params.image_gradient = params.scratch;
    params.transparency = nullptr;
  }
  const int64_t groups = params.channels / kGroup;
  for (int64_t image = 0; image < params.batch; image += kGridYz) {
    for (int64_t group = 0; group < groups; group += kGridYz) {
      tiling.first_image = image;
      tiling.first_group = group;
      const dim3 grid(tiles, grid_yz(groups - group), grid_yz(params.batch - image));
      crop_gradient_kernel<Real, Element, kGroup>
          <<<grid, dim3(kTileColumns, kGroup), 0, stream_of(target)>>>(params, tiling);
      check_launch("crop_gradient");
    }
  }
  if (in_parts) launch_add_parts_kernel<Real>(whole, target);
}

// Whether the channels of a pixel and the pixels of a row follow one another.
static bool is_interleaved(const CropGradientParams& params) {
  return params.gradient_strides[2] == 1 &&
         (params.width == 1 || params.gradient_strides[4] == params.channels);
}

template <typename Real, typename Element>
void launch_by_channels(const CropGradientParams& params, const Target& target) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    const bool interleaved = is_interleaved(params);
    if (group_of<Real>(params) == 3) {
      return launch_crop_gradient_kernel<Real, Element, 3>(params, interleaved, target);
    }
    if (group_of<Real>(params) == 4) {
      return launch_crop_gradient_kernel<Real, Element, 4>(params, interleaved, target);
    }
  }
  launch_crop_gradient_kernel<Real, Element, 1>(params, false, target);
}

int64_t crop_gradient_scratch(const CropGradientParams& params) {
  return with_real(params.image_dtype, [&](auto real) -> int64_t {
    using Real = decltype(real);
    return has_parts<Real>(params) ? kGradientParts * pixels_of(params) * int64_t{sizeof(Real)} : 0;
  });
}

void crop_gradient(const CropGradientParams& params, const Target& target) {
  if (pixels_of(params) == 0) return;
  const DeviceGuard guard(target, "crop_gradient");
  with_real(params.image_dtype, [&](auto real) {
    with_element(params.gradient_dtype, [&](auto element) {
      launch_by_channels<decltype(real), decltype(element)>(params, target);
    });
  });
}

}  // namespace fvfast::cuda
