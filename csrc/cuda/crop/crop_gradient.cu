// The gradient of cropping with respect to the image, as a gather: a block sums what every crop
// says about a tile of the image, in a fixed order. No atomics, the same bits in every run.
//
// Like the crop it is separable. For each box that reaches the tile, in pieces of a crop:
//
//   - the gradient of the piece is staged in shared memory, 16 bytes at a time;
//   - along y, a thread has a column of the crop: it blends the rows of the crop that read each row
//     of the tile;
//   - along x, a thread has columns of the image: it adds the columns of the crop that read them to
//     sums in registers, which are written once, at the end.
//
// Each sample of a crop reads a pixel and the next one. So samples are listed by the former: those
// that list p names say (1 - share) about pixel p, and share about pixel p + 1.
//
// Traffic: the image's gradient and alpha once, and the gradient of a crop once, but for samples
// between two tiles, which both need: 9/8 of the rows, and one sector at each end of a row.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/bilinear.h"
#include "common/element.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kTileRows = 8;
constexpr int kTileColumns = 64;  // a thread for each, and for each channel of a group
constexpr int kPieceRows = 16;
constexpr int kPieceColumns = kTileColumns;
// A row of a piece, in whole sectors of 16 elements or less, has this at most.
constexpr int kRawPitch = kPieceColumns + 16;
// Rows 0..3 and 4..7 of a blended column lie apart by half of the banks.
constexpr int kBlendedPitch = kPieceColumns + 4;
constexpr int kBlendedChannel = 2 * kBlendedPitch + 2;  // and so do four channels of two columns
constexpr int kCropsPerLook = kWarp;                    // a lane looks at one box

// Samples of a crop: those that reach a tile, [begin, end). Padded, so that neighbouring lanes meet
// different banks.
struct Reach {
  int begin, end;
  int piece;   // of them that are done at a time
  int sparse;  // whether few read the same pixel
  int unused;
};

// Padded likewise.
struct PaddedAxis {
  Axis axis;
  double unused;
};

// Blocks that a multiprocessor has registers for: 64 of a thread, or a few more where those would
// not do.
template <typename Real, typename Element, int kGroup>
constexpr int kGradientBlocks = (sizeof(Real) == 8                                       ? 8
                                 : sizeof(typename Element::Storage) == 2 || kGroup != 3 ? 14
                                                                                         : 16) /
                                kGroup;

// What a block asks of one axis of the boxes.
struct Question {
  int size;       // samples
  int length;     // pixels
  int low, high;  // samples with lower pixels in [low, high] reach the tile
  int most;       // samples of a piece
};

// How a launch covers the images.
struct GradientTiling {
  unsigned column_tiles;
  int64_t first_group;  // of channels, and of images: those of the blocks (., 0, 0)
  int64_t first_image;
  bool woven;  // the channels of a group and the columns of a crop follow one another in memory
  int align;   // elements at multiples of which packs of 16 bytes start; 0: rows have no packs
};

// A range of samples that contains those whose lower pixel is in [low, high]. It is as small as can
// be, but for a box of next to no extent, or of far too much. All lanes of a warp come here, with
// an axis and a question in shared memory.
__device__ inline Reach reach_of(const Axis& axis, const Question& question) {
  const int size = question.size;
  const float spacing = axis.spacing();
  Reach reach = {0, size, 0, fabsf(spacing) >= 0.9f, 0};
  if (fabsf(spacing) > 1e-6f && fabsf(spacing) < 1e30f) {
    const double per_pixel = 1 / spacing;
    const double left = (question.low - axis.first()) * per_pixel;
    const double right = (question.high + 1 - axis.first()) * per_pixel;
    const double margin = 1 + 1e-6 * size;  // more than the rounding of the spacing can amount to
    const double begin = fmin(left, right) - margin, end = fmax(left, right) + margin + 1;
    reach.begin = static_cast<int>(fmin(fmax(begin, 0.0), static_cast<double>(size)));
    reach.end = static_cast<int>(fmin(fmax(end, 0.0), static_cast<double>(size)));
  }
  // The samples at both ends in turn. What the axis is, the compiler shall look up each time: it
  // has no registers to spare.
#pragma unroll 1
  for (int i = 0; i < 8; ++i) {
    __syncwarp();
    if (reach.begin >= reach.end) continue;
    const bool last = i % 2 != 0;
    const Sample sample = axis.sample(last ? reach.end - 1 : reach.begin);
    const int lower = static_cast<int>(sample.lower);
    if (sample.inside && lower >= question.low && lower <= question.high) continue;
    if (last) {
      --reach.end;
    } else {
      ++reach.begin;
    }
  }
  // Pieces of about the same size.
  const int samples = reach.end - reach.begin;
  const int pieces = max((samples + question.most - 1) / question.most, 1);
  reach.piece = (samples + pieces - 1) / pieces;
  return reach;
}

// Positions are monotonic, so that each list is one range. `list` is where a sample belongs, or -1,
// and `before` and `after` are those of its neighbours.
__device__ inline void enter(int sample, int list, int before, int after, uint16_t* begins,
                             uint16_t* ends) {
  if (list < 0) return;
  if (before != list) begins[list] = static_cast<uint16_t>(sample);
  if (after != list) ends[list] = static_cast<uint16_t>(sample + 1);
}

// sum += weight * four numbers, which need not be finite where they do not count.
template <typename Real>
__device__ void add_weighted(Real weight, bool counts, const Real* from, Real (&sum)[4]) {
  Real values[4];
  load_four(from, values);
  FVFAST_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (counts) sum[i] += weight * values[i];
  }
}

// Stores the elements of 16 bytes. Where those are eight, a lane writes twice: every other four
// lanes start with the second half, so that eight lanes meet different banks.
template <typename Real, int count>
__device__ void store_pack(const Real (&values)[count], Real* to) {
  if constexpr (count == 8) {
    // Unrolled, the compiler would see that both orders write the same, and choose one.
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

// Stages columns [left, left + count) of rows [top, top + band) of a crop's channels. The packs
// follow one another, so that neighbouring lanes meet different banks.
template <typename Element, int kGroup, typename Real>
__device__ Piece stage(const CropGradientParams& params, const GradientTiling& tiling,
                       const typename Element::Storage* gradient, int left, int count, int top,
                       int band, Real* raw) {
  constexpr int kThreads = kTileColumns * kGroup;
  constexpr int kPerPack = kPack<Element>;
  constexpr int kAtOnce = 2;  // loads under way
  const int thread = static_cast<int>(threadIdx.y) * kTileColumns + static_cast<int>(threadIdx.x);
  const int weave = tiling.woven ? kGroup : 1;  // elements of a column
  const int first = left * weave, last = (left + count) * weave;
  const int align = max(tiling.align, 1), step = tiling.align > 0 ? kPerPack : 1;
  const int start = first / align * align;
  const int per_line = (last - start + align - 1) / align * (align / step);
  const int total = per_line * band * (tiling.woven ? 1 : kGroup);
  const float lines_per = __fdividef(1.0f, static_cast<float>(per_line));
  const float planes_per = __fdividef(1.0f, static_cast<float>(band));

  // Quotients of small whole numbers: half of one is far more than their rounding.
  const auto quotient = [](int i, float reciprocal) {
    return static_cast<int>((static_cast<float>(i) + 0.5f) * reciprocal);
  };
  const auto offset_of = [&](int i) {
    const int line = quotient(i, lines_per);
    const int plane = quotient(line, planes_per), y = line - plane * band;
    const int x = start + (i - line * per_line) * step;
    const int64_t along = tiling.woven ? x : x * params.gradient_strides[4];
    return plane * params.gradient_strides[2] + (top + y) * params.gradient_strides[3] + along;
  };
  if (tiling.align > 0) {
#pragma unroll 1
    for (int i = thread; i < total; i += kAtOnce * kThreads) {
      uint4 packs[kAtOnce];
      FVFAST_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int at = i + k * kThreads;
        if (at < total) packs[k] = __ldg(reinterpret_cast<const uint4*>(gradient + offset_of(at)));
      }
      FVFAST_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int at = i + k * kThreads;
        if (at >= total) continue;
        const uint32_t words[4] = {packs[k].x, packs[k].y, packs[k].z, packs[k].w};
        Real values[kPerPack];
        unpack<Element>(words, values);
        store_pack(values, raw + at * kPerPack);
      }
    }
  } else {
#pragma unroll 1
    for (int i = thread; i < total; i += kAtOnce * kThreads) {
      Real values[kAtOnce];
      FVFAST_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int at = i + k * kThreads;
        if (at < total) values[k] = static_cast<Real>(Element::load(gradient[offset_of(at)]));
      }
      FVFAST_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int at = i + k * kThreads;
        if (at < total) raw[at] = values[k];
      }
    }
  }
  const int row = per_line * step;
  return {first - start, weave, row, tiling.woven ? 1 : band * row};
}

template <typename Real, typename Element, int kGroup>
__global__ void __launch_bounds__(kTileColumns* kGroup, kGradientBlocks<Real, Element, kGroup>)
    crop_gradient_kernel(const CropGradientParams params, const GradientTiling tiling) {
  using Storage = typename Element::Storage;
  constexpr int kThreads = kTileColumns * kGroup;
  __shared__ alignas(16) Real raw[kGroup * kPieceRows * kRawPitch];
  __shared__ alignas(16) Real blended[kGroup * kBlendedChannel * 4];
  __shared__ Real row_share[kPieceRows];
  __shared__ Real column_share[kPieceColumns];
  __shared__ int column_list[kPieceColumns];
  __shared__ uint16_t row_begin[kTileRows + 2], row_end[kTileRows + 2];
  __shared__ uint16_t column_begin[kTileColumns + 2], column_end[kTileColumns + 2];
  __shared__ Reach row_reach[kCropsPerLook], column_reach[kCropsPerLook];
  __shared__ PaddedAxis row_axis[kCropsPerLook], column_axis[kCropsPerLook];
  __shared__ Question questions[2];
  __shared__ unsigned reaching[2];

  const int column = static_cast<int>(threadIdx.x), channel = static_cast<int>(threadIdx.y);
  const int thread = channel * kTileColumns + column;
  const int lane = column % kWarp;

  const int first_pixel = static_cast<int>(blockIdx.x % tiling.column_tiles) * kTileColumns;
  const int first_row = static_cast<int>(blockIdx.x / tiling.column_tiles) * kTileRows;
  const int64_t first_channel = (tiling.first_group + blockIdx.y) * kGroup;
  const int64_t image = tiling.first_image + blockIdx.z;

  // A thread sums half of the rows of two columns. The lanes that read `blended` together have four
  // columns and both halves.
  const int half = lane >> 2 & 1;
  const int own = (column / kWarp) * 16 + (lane >> 3) * 4 + (lane & 3);  // and own + 32
  Real sums[2][4];
  // While boxes are looked at, which takes many registers, the sums lie in shared memory. So do the
  // questions, or the compiler would keep them in registers all the time.
  static_assert(8 * kThreads <= kGroup * kPieceRows * kRawPitch, "there is room for the sums");

  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) raw[i * kThreads + thread] = 0;
  if (thread == 0) {
    questions[0] = {static_cast<int>(params.height), static_cast<int>(params.image_height),
                    first_row - 1, first_row + kTileRows - 1, kPieceRows};
    questions[1] = {static_cast<int>(params.width), static_cast<int>(params.image_width),
                    first_pixel - 1, first_pixel + kTileColumns - 1, kPieceColumns};
  }
  const int64_t looks = (params.crops + kCropsPerLook - 1) / kCropsPerLook;
  for (unsigned look = 0; look < looks; ++look) {
    __syncthreads();
    // One warp looks at the rows of the boxes, another at their columns.
    if (thread < 2 * kWarp) {
      const bool rows = thread < kWarp;
      const Question& question = questions[rows ? 0 : 1];
      const int64_t crop = int64_t{look} * kCropsPerLook + lane;
      const Box box = box_at(params.boxes, params.box_dtype,
                             image * params.crops + min(crop, params.crops - 1));
      Axis& axis = (rows ? row_axis : column_axis)[lane].axis;
      axis = Axis(rows ? box.y1 : box.x1, rows ? box.y2 : box.x2, question.size, question.length);
      __syncwarp();  // from here on the axis lies in shared memory alone
      const Reach reach = reach_of(axis, question);
      (rows ? row_reach : column_reach)[lane] = reach;
      const bool reaches = crop < params.crops && reach.begin < reach.end;
      const unsigned ballot = __ballot_sync(0xffffffffu, reaches);
      if (lane == 0) reaching[rows ? 0 : 1] = ballot;
    }
    __syncthreads();
    FVFAST_UNROLL
    for (int i = 0; i < 8; ++i) sums[i / 4][i % 4] = raw[i * kThreads + thread];
    __syncthreads();

    for (unsigned left_over = reaching[0] & reaching[1]; left_over != 0;
         left_over &= left_over - 1) {
      const int candidate = __ffs(static_cast<int>(left_over)) - 1;
      const int64_t crop = int64_t{look} * kCropsPerLook + candidate;
      const Reach& rows = row_reach[candidate];
      const Reach& columns = column_reach[candidate];
      const Storage* gradient =
          static_cast<const Storage*>(params.gradient) + image * params.gradient_strides[0] +
          crop * params.gradient_strides[1] + first_channel * params.gradient_strides[2];
      for (int left = columns.begin; left < columns.end; left += columns.piece) {
        const int count = min(columns.piece, columns.end - left);
        if (channel == 0) {
          int list = -1;
          if (column < count) {
            const Sample sample = column_axis[candidate].axis.sample(left + column);
            const int at = static_cast<int>(sample.lower) - (first_pixel - 1);
            if (sample.inside && at >= 0 && at <= kTileColumns) list = at;
            column_share[column] = static_cast<Real>(sample.share);
          }
          column_list[column] = list;
          for (int i = column; i < kTileColumns + 2; i += kTileColumns) {
            column_begin[i] = column_end[i] = 0;
          }
        }

        // Along y. Lanes without a column do what the last one does. Neighbouring lanes have
        // neighbouring columns, but where four channels are woven: a stride of four elements meets
        // few banks, so that the channels of a column go to neighbouring lanes.
        const bool mixed = kGroup == 4 && tiling.woven;
        const int y_column = mixed ? thread / kGroup : column;
        const int y_channel = mixed ? thread % kGroup : channel;
        const bool has_columns = (mixed ? (thread - lane) / kGroup : column - lane) < count;
        const int own_column = min(y_column, count - 1);
        Real sums_of_column[kTileRows] = {};
        for (int top = rows.begin; top < rows.end; top += rows.piece) {
          const int band = min(rows.piece, rows.end - top);
          if (thread >= kThreads - kWarp) {
            int list = -1;
            if (lane < band) {
              const Sample sample = row_axis[candidate].axis.sample(top + lane);
              const int at = static_cast<int>(sample.lower) - (first_row - 1);
              if (sample.inside && at >= 0 && at <= kTileRows) list = at;
              row_share[lane] = static_cast<Real>(sample.share);
            }
            if (lane < kTileRows + 2) row_begin[lane] = row_end[lane] = 0;
            const int before = __shfl_up_sync(0xffffffffu, list, 1);
            const int after = __shfl_down_sync(0xffffffffu, list, 1);
            __syncwarp();
            enter(lane, list, lane == 0 ? -1 : before, lane == kWarp - 1 ? -1 : after, row_begin,
                  row_end);
          }
          const Piece piece =
              stage<Element, kGroup>(params, tiling, gradient, left, count, top, band, raw);
          __syncthreads();
          if (channel == 0 && top == rows.begin && column < count) {
            enter(column, column_list[column], column == 0 ? -1 : column_list[column - 1],
                  column == count - 1 ? -1 : column_list[column + 1], column_begin, column_end);
          }
          if (has_columns) {
            const Real* from =
                raw + piece.first + own_column * piece.column + y_channel * piece.channel;
            FVFAST_UNROLL
            for (int list = 0; list <= kTileRows; ++list) {
              const int end = row_end[list];
#pragma unroll 1
              for (int y = row_begin[list]; y < end; ++y) {
                const Real value = from[y * piece.row], share = row_share[y];
                if (list > 0) sums_of_column[list - 1] += (Real(1) - share) * value;
                if (list < kTileRows) sums_of_column[list] += share * value;
              }
            }
          }
          if (top + rows.piece < rows.end) __syncthreads();
        }
        if (has_columns) {
          Real* to = blended + (y_channel * kBlendedChannel + y_column) * 4;
          const Real low[4] = {sums_of_column[0], sums_of_column[1], sums_of_column[2],
                               sums_of_column[3]};
          const Real high[4] = {sums_of_column[4], sums_of_column[5], sums_of_column[6],
                                sums_of_column[7]};
          store_four(low, to);
          store_four(high, to + kBlendedPitch * 4);
        }
        __syncthreads();

        // Along x.
        const Real* from = blended + (channel * kBlendedChannel + half * kBlendedPitch) * 4;
        if (columns.sparse) {
          // Three samples at most read a pixel: a lane has two pixels.
          FVFAST_UNROLL
          for (int other = 0; other < 2; ++other) {
            const int pixel = own + other * kWarp;
            const int before = column_begin[pixel], after = column_begin[pixel + 1];
            const int shares = column_end[pixel] - before;
            const int readers = shares + column_end[pixel + 1] - after;
            FVFAST_UNROLL
            for (int i = 0; i < 3; ++i) {
              // Lanes that have no more readers do the last one again, with no weight.
              const int reader = max(min(i, readers - 1), 0);
              const bool first = reader < shares;
              const int x = first ? before + reader : after + reader - shares;
              const Real share = column_share[x];
              add_weighted(first ? share : Real(1) - share, i < readers, from + x * 4, sums[other]);
            }
          }
        } else {
          // Many do: four lanes share a pixel. They read neighbouring samples, so that they meet
          // different banks however many samples lie between the pixels.
          FVFAST_UNROLL
          for (int other = 0; other < 2; ++other) {
#pragma unroll 1
            for (int mate = 0; mate < 4; ++mate) {
              const int pixel = own - (lane & 3) + mate + other * kWarp;
              Real partial[4] = {};
              FVFAST_UNROLL
              for (int next = 0; next < 2; ++next) {
                const int end = column_end[pixel + next];
#pragma unroll 1
                for (int first = column_begin[pixel + next]; first < end; first += 4) {
                  const int x = first + (lane & 3), present = min(x, end - 1);
                  const Real share = column_share[present];
                  add_weighted(next == 0 ? share : Real(1) - share, x < end, from + present * 4,
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
        __syncthreads();
      }
    }
    FVFAST_UNROLL
    for (int i = 0; i < 8; ++i) raw[i * kThreads + thread] = sums[i / 4][i % 4];
  }
  FVFAST_UNROLL
  for (int i = 0; i < 8; ++i) sums[i / 4][i % 4] = raw[i * kThreads + thread];

  const int64_t plane = image * params.channels + first_channel + channel;
  const int first = first_row + 4 * half;
  const int rows = static_cast<int>(min(params.image_height - first, int64_t{4}));
  FVFAST_UNROLL
  for (int other = 0; other < 2; ++other) {
    const int x = first_pixel + own + other * kWarp;
    if (x >= params.image_width) continue;
    Real* image_gradient = static_cast<Real*>(params.image_gradient) +
                           (plane * params.image_height + first) * params.image_width + x;
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i < rows) image_gradient[i * params.image_width] = sums[other][i];
    }
    if (params.alpha == nullptr) continue;
    Real* alpha = static_cast<Real*>(params.alpha) + image * params.alpha_strides[0] +
                  (first_channel + channel) * params.alpha_strides[1] +
                  first * params.alpha_strides[2] + x * params.alpha_strides[3];
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      const Real magnitude = std::fabs(sums[other][i]);
      if (i < rows && std::isfinite(magnitude)) alpha[i * params.alpha_strides[2]] += magnitude;
    }
  }
}

// Whether each row of the gradient consists of whole groups of so many elements and bytes.
static bool has_packs(const CropGradientParams& params, bool woven, int64_t elements,
                      uintptr_t bytes) {
  const int64_t sizes[4] = {params.batch, params.crops, params.channels, params.height};
  const int64_t row = params.width * (woven ? params.channels : 1);
  bool packs = (woven || params.width == 1 || params.gradient_strides[4] == 1) &&
               row % elements == 0 && reinterpret_cast<uintptr_t>(params.gradient) % bytes == 0;
  for (int d = 0; d < 4; ++d) {
    if ((woven && d == 2) || sizes[d] == 1) continue;
    packs = packs && params.gradient_strides[d] % elements == 0;
  }
  return packs;
}

template <typename Real, typename Element, int kGroup>
void launch_gradients(const CropGradientParams& params, bool woven, const Target& target) {
  GradientTiling tiling{};
  const int64_t column_tiles = (params.image_width + kTileColumns - 1) / kTileColumns;
  const unsigned tiles =
      grid_x(column_tiles * ((params.image_height + kTileRows - 1) / kTileRows), "crop_gradient");
  tiling.column_tiles = static_cast<unsigned>(column_tiles);
  tiling.woven = woven;
  // Rows in whole sectors of 32 bytes are read by sectors, so that no two warps share one.
  tiling.align = has_packs(params, woven, 2 * kPack<Element>, 32) ? 2 * kPack<Element>
                 : has_packs(params, woven, kPack<Element>, 16)   ? kPack<Element>
                                                                  : 0;
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
}

// Whether the channels of a pixel and the pixels of a row follow one another.
static bool is_woven(const CropGradientParams& params) {
  return params.gradient_strides[2] == 1 &&
         (params.width == 1 || params.gradient_strides[4] == params.channels);
}

template <typename Real, typename Element>
void launch_gradients(const CropGradientParams& params, const Target& target) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    const bool woven = is_woven(params);
    if (params.channels == 3) return launch_gradients<Real, Element, 3>(params, woven, target);
    if (params.channels == 4) return launch_gradients<Real, Element, 4>(params, woven, target);
  }
  launch_gradients<Real, Element, 1>(params, false, target);
}

template <typename Real>
void launch_gradients(const CropGradientParams& params, const Target& target) {
  switch (params.gradient_dtype) {
    case DType::kFloat32:
      return launch_gradients<Real, Float32>(params, target);
    case DType::kFloat64:
      return launch_gradients<Real, Float64>(params, target);
    case DType::kBFloat16:
      return launch_gradients<Real, BFloat16>(params, target);
    case DType::kFloat16:
      return launch_gradients<Real, Float16>(params, target);
  }
}

void crop_gradient(const CropGradientParams& params, const Target& target) {
  if (params.batch * params.channels * params.image_height * params.image_width == 0) return;
  const DeviceGuard guard(target, "crop_gradient");
  if (params.image_dtype == DType::kFloat64) return launch_gradients<double>(params, target);
  launch_gradients<float>(params, target);
}

}  // namespace fvfast::cuda
