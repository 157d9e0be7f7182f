// Crop, resize and add noise in one pass: each crop is written once, and read never.
//
// A block makes some rows of one crop, of one channel or of all channels of a crop in which these
// lie next to each other. It first works out where its columns and rows lie, once for all. Then, a
// few rows at a time:
//
//   - a warp takes a row of the image, stages the part that is read in shared memory, and resamples
//     it along x into a ring of such rows, which keeps those that the next rows need too;
//   - a thread blends two of them into four consecutive elements of each channel, whose noise has
//     one counter, and a warp writes what its threads made, 16 bytes at a time.
//
// Traffic: a crop is written once. The image is read once for each block that needs it, which is
// two rows of the image more than a block covers.
#include <algorithm>
#include <cstdint>

#include "common/bilinear.h"
#include "common/element.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/noise_group.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kCropThreads = 256;
constexpr int kCropWarps = kCropThreads / kWarp;
constexpr int kCropRows = 64;        // of a block, at most
constexpr int kUnit = 4 * kWarp;     // pixels that a warp makes at once
constexpr float kStagedSpacing = 8;  // samples further apart than a sector: staging reads more

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

// How the pixels of a crop are cut into tiles, one for a block.
struct CropTiling {
  int columns;  // those of the crop, or a multiple of kUnit
  int rows;
  unsigned column_tiles;
  unsigned row_tiles;
  int64_t first_crop;  // that of the blocks (., 0, .)
  bool dense;          // the channels of a group and the pixels of a row are next to each other
  bool whole_rows;     // as are the rows of a tile
};

// What a block knows of its columns and rows.
template <typename Real>
struct CropSamples {
  const int* column_lower;  // the pixel at or before each column; -1: outside
  const Real* column_share;
  int columns;
  int begin, end;  // columns inside the image
  float spacing;   // of columns, in pixels, >= 0
};

// A row of the image, resampled along x by one warp.
template <typename Real, int kStaged>
__device__ void resample_row(const Real* row, int stride, int length,
                             const CropSamples<Real>& samples, Real* buffer, Real* out) {
  constexpr int kSector = 32 / static_cast<int>(sizeof(Real));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool staged = samples.spacing <= kStagedSpacing;
  // Columns of which the pixels fit the buffer.
  const float fitting = __fdividef(kStaged - kSector - 3, samples.spacing);
  const int most = staged ? 1 + static_cast<int>(fminf(fitting, 1e6f)) : samples.columns;
  // Samples that lie up to 32 pixels apart read different banks. Where samples are more than a
  // pixel apart, some lanes rest, rather than all waiting for a second access.
  const int most_lanes = samples.spacing > 1 && samples.spacing < 2
                             ? static_cast<int>(__fdividef(kWarp - 1, samples.spacing)) + 1
                             : kWarp;
  for (int first = 0; first < samples.columns; first += most) {
    const int last = min(first + most, samples.columns);
    const int begin = max(first, samples.begin), end = min(last, samples.end);
    if (begin >= end) {
      for (int x = first + lane; x < last; x += kWarp) out[x] = 0;
      continue;
    }
    if (!staged) {
      for (int x = first + lane; x < last; x += kWarp) {
        Real value = 0;
        if (x >= begin && x < end) {
          const int pixel = samples.column_lower[x];
          const Real lower = __ldg(row + int64_t{pixel} * stride);
          const Real upper = __ldg(row + int64_t{min(pixel + 1, length - 1)} * stride);
          value = lower + samples.column_share[x] * (upper - lower);
        }
        out[x] = value;
      }
      continue;
    }
    // Positions are monotonic: the extremes are at the ends. The pixel after the last one of a row
    // counts as 0: its share is 0.
    const int left = samples.column_lower[begin], right = samples.column_lower[end - 1];
    const int low = min(left, right), high = max(left, right) + 1;
    int before = 0;
    if (stride == 1) {  // sectors are read whole, from their start
      before =
          static_cast<int>(reinterpret_cast<uintptr_t>(row + low) / sizeof(Real)) & (kSector - 1);
    }
    const int start = low - before;
    const int count = min(high + 1, length) - start, stored = high + 1 - start;
    if (stride == 1) {
      const Real* from = row + start + lane;
      Real values[kStaged / kWarp];
      FVFAST_UNROLL
      for (int i = 0; i < kStaged / kWarp; ++i) {
        const int at = i * kWarp + lane;
        values[i] = 0;
        if ((i > 0 || at >= before) && at < count) values[i] = __ldg(from + i * kWarp);
      }
      FVFAST_UNROLL
      for (int i = 0; i < kStaged / kWarp; ++i) {
        if (i * kWarp < stored) buffer[i * kWarp + lane] = values[i];
      }
    } else {
      for (int at = lane; at < stored; at += kWarp) {
        buffer[at] = at < count ? __ldg(row + int64_t{start + at} * stride) : Real(0);
      }
    }
    __syncwarp();
    // All turns have as many lanes, of which those beyond the last column write into its margin.
    const int turns = (last - first + most_lanes - 1) / most_lanes;
    const int lanes = (last - first + turns - 1) / turns;
    if (lane < lanes) {
      const Real* pixels = buffer - start;
      int x = first + lane;
      for (int turn = 0; turn < turns; ++turn, x += lanes) {
        // Columns outside the image read with their neighbours, and throw it away.
        const int from = min(max(x, begin), end - 1);
        const int pixel = samples.column_lower[from];
        const Real lower = pixels[pixel], upper = pixels[pixel + 1];
        const Real value = lower + samples.column_share[from] * (upper - lower);
        out[x] = from == x ? value : Real(0);
      }
    }
    __syncwarp();
  }
}

// The order in which a lane's 16 bytes lie in the buffer of its warp: such that eight lanes that
// write at once meet different banks. Both lanes' units and their number are powers of two, or the
// order is theirs.
template <int kUnits>
__device__ int swizzled(int lane, int unit) {
  if constexpr (kUnits == 2 || kUnits == 4 || kUnits == 8) {
    return kUnits * lane + (unit ^ (lane / (8 / kUnits) & (kUnits - 1)));
  } else {
    return kUnits * lane + unit;
  }
}

// Writes the elements [first, last) of a warp's `kCount` from its buffer.
template <typename Element, int kUnits, int kCount>
__device__ void write_out(const uint4* buffer, typename Element::Storage* out, int first,
                          int last) {
  using Storage = typename Element::Storage;
  constexpr int kPerPack = kPack<Element>;
  constexpr int kPacks = kCount / kPerPack;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto place = [](int pack) {
    return kUnits > 1 ? swizzled<kUnits>(pack / max(kUnits, 1), pack % max(kUnits, 1)) : pack;
  };
  const bool aligned = is_aligned_to<16>(out);
  if (aligned && first == 0 && last == kCount) {
    FVFAST_UNROLL
    for (int i = 0; i < (kPacks + kWarp - 1) / kWarp; ++i) {
      const int at = i * kWarp + lane;
      if (kPacks % kWarp == 0 || at < kPacks) {
        reinterpret_cast<uint4*>(out)[at] = buffer[place(at)];
      }
    }
    return;
  }
  const Storage* elements = reinterpret_cast<const Storage*>(buffer);
  for (int at = aligned ? lane * kPerPack : lane; at < last;
       at += aligned ? kWarp * kPerPack : kWarp) {
    const int from = place(at / kPerPack);
    if (aligned && at >= first && at + kPerPack <= last) {
      reinterpret_cast<uint4*>(out)[at / kPerPack] = buffer[from];
      continue;
    }
    for (int i = at; i < min(last, at + (aligned ? kPerPack : 1)); ++i) {
      if (i >= first) out[i] = elements[from * kPerPack + i % kPerPack];
    }
  }
}

template <typename Real, typename Element, int kGroup>
__global__ void __launch_bounds__(kCropThreads, CropMemory<Real, Element, kGroup>::kBlocks)
    crop_kernel(const CropParams params, const CropTiling tiling, const Streams streams) {
  using Storage = typename Element::Storage;
  using Memory = CropMemory<Real, Element, kGroup>;
  __shared__ alignas(16) Real ring[Memory::kRing];
  __shared__ alignas(16) unsigned char buffers[kCropWarps * Memory::kBuffer];
  __shared__ int column_lower[Memory::kColumns];
  __shared__ Real column_share[Memory::kColumns];
  __shared__ int row_lower[kCropRows];
  __shared__ int row_low[kCropRows];  // of a row: where in the ring its two rows start; -1: outside
  __shared__ int row_high[kCropRows];
  __shared__ Real row_share[kCropRows];
  __shared__ int inside[4];  // columns and rows inside the image: the first, one past the last
  __shared__ float spacings[2];

  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp, warp = thread / kWarp;

  const unsigned column_tile = blockIdx.x / tiling.row_tiles;
  const int64_t first_row = int64_t{blockIdx.x % tiling.row_tiles} * tiling.rows;
  const int64_t first_column = int64_t{column_tile % tiling.column_tiles} * tiling.columns;
  const int64_t channel = int64_t{column_tile / tiling.column_tiles} * kGroup;
  const int64_t crop = tiling.first_crop + blockIdx.y;
  const int64_t image = blockIdx.z;
  const int rows = static_cast<int>(min(params.height - first_row, int64_t{tiling.rows}));
  const int columns = static_cast<int>(min(params.width - first_column, int64_t{tiling.columns}));

  // Where the columns and rows lie. Columns are dealt out from the first thread on, rows from the
  // last: most often each thread has one at most.
  if (thread < 4) inside[thread] = 0;
  const Box box = box_at(params.boxes, params.box_dtype, image * params.crops + crop);
  {
    const Axis axis(box.x1, box.x2, params.width, params.image_width);
    for (int x = thread; x < columns; x += kCropThreads) {
      const Sample sample = axis.sample(first_column + x);
      column_lower[x] = sample.inside ? static_cast<int>(sample.lower) : -1;
      column_share[x] = static_cast<Real>(sample.share);
    }
    if (thread == 0) spacings[0] = fabsf(axis.spacing());
  }
  const int row = kCropThreads - 1 - thread;
  if (row < rows) {
    const Axis axis(box.y1, box.y2, params.height, params.image_height);
    const Sample sample = axis.sample(first_row + row);
    row_lower[row] = sample.inside ? static_cast<int>(sample.lower) : -1;
    row_share[row] = static_cast<Real>(sample.share);
    if (row == 0) spacings[1] = fabsf(axis.spacing());
  }
  __syncthreads();

  // The ring. Rows of a crop that are close together share rows of the image, each of which has its
  // slot; otherwise each row of the crop has two slots.
  const int pitch = (columns + (columns - 1) / Memory::kTurn + 3) / 4 * 4;
  const int slots = Memory::kRing / (kGroup * pitch);
  const int close = 1 + static_cast<int>(fminf(
                            __fdividef(static_cast<float>(slots - 3), spacings[1]), kCropRows));
  const bool shared = close >= slots / 2;
  const int pass = shared ? close : slots / 2;  // rows of the crop that are done at a time
  for (int x = thread; x < columns; x += kCropThreads) {
    if (column_lower[x] < 0) continue;
    if (x == 0 || column_lower[x - 1] < 0) inside[0] = x;
    if (x == columns - 1 || column_lower[x + 1] < 0) inside[1] = x + 1;
  }
  if (row < rows) {
    const int lower = row_lower[row];
    int low = -1, high = -1;
    if (lower >= 0) {
      if (row == 0 || row_lower[row - 1] < 0) inside[2] = row;
      if (row == rows - 1 || row_lower[row + 1] < 0) inside[3] = row + 1;
      const int upper = min(lower + 1, static_cast<int>(params.image_height) - 1);
      low = shared ? lower % slots : 2 * (row % pass);
      high = shared ? upper % slots : low + 1;
      low *= kGroup * pitch;
      high *= kGroup * pitch;
    }
    row_low[row] = low;
    row_high[row] = high;
  }
  __syncthreads();

  const CropSamples<Real> samples = {column_lower, column_share, columns,
                                     inside[0],    inside[1],    spacings[0]};
  const bool empty = inside[0] >= inside[1];
  const int image_height = static_cast<int>(params.image_height);
  const Real* pixels = static_cast<const Real*>(params.images) + image * params.image_strides[0] +
                       channel * params.image_strides[1];
  Storage* out = static_cast<Storage*>(params.out) + image * params.out_strides[0] +
                 crop * params.out_strides[1] + channel * params.out_strides[2] +
                 first_row * params.out_strides[3] + first_column * params.out_strides[4];
  const int64_t plane = params.height * params.width;
  const int64_t first_element =
      (crop * params.channels + channel) * plane + first_row * params.width + first_column;
  const NoiseSource<Real> noise(params.std, params.uniform_width, params.seed,
                                current_step(params.step, params.counter), streams.words[image]);
  unsigned char* buffer = buffers + warp * Memory::kBuffer;
  const float per_column = __fdividef(1.0f, static_cast<float>(columns));
  int held = 0, held_end = 0;  // rows of the image in the ring

  for (int first = 0; first < rows; first += pass) {
    const int last = min(first + pass, rows);
    const int begin = max(first, inside[2]), end = min(last, inside[3]);
    if (begin < end && !empty) {
      int needed = 2 * begin, needed_end = 2 * end;  // two for each row of the crop
      if (shared) {
        const int left = row_lower[begin], right = row_lower[end - 1];
        const int low = min(left, right), high = min(max(left, right) + 2, image_height);
        needed = low >= held ? max(low, held_end) : low;
        needed_end = low >= held ? high : min(high, held);
        held = low;
        held_end = high;
      }
      for (int task = warp; task < (needed_end - needed) * kGroup; task += kCropWarps) {
        const int at = needed + task / kGroup, c = task % kGroup;
        const int low = shared ? at : row_lower[at / 2];
        const int pixel_row = shared ? at : min(low + at % 2, image_height - 1);
        const int slot = shared ? at % slots : 2 * (at / 2 % pass) + at % 2;
        resample_row<Real, Memory::kStaged>(
            pixels + c * params.image_strides[1] + pixel_row * params.image_strides[2],
            static_cast<int>(params.image_strides[3]), static_cast<int>(params.image_width),
            samples, reinterpret_cast<Real*>(buffer), ring + (slot * kGroup + c) * pitch);
      }
    }
    __syncthreads();

    // Runs of pixels that follow one another in memory: all of the rows, or each.
    const int run_pixels = tiling.whole_rows ? (last - first) * columns : columns;
    const int runs = tiling.whole_rows ? 1 : last - first;
    const int units = (run_pixels + 3 + kUnit - 1) / kUnit;  // of a run
    for (int task = warp; task < runs * units; task += kCropWarps) {
      const int run = tiling.whole_rows ? 0 : task / units;
      const int run_row = first + run;
      const int64_t run_element = first_element + run_row * params.width;
      // Where the counter of the run's first element starts.
      const int skipped = static_cast<int>(run_element & 3);
      const int unit = (task - run * units) * kUnit - skipped;
      const int pixel = unit + 4 * lane;

      Real values[4 * kGroup];
      FVFAST_UNROLL
      for (int i = 0; i < 4 * kGroup; ++i) values[i] = 0;
      // The quotient of two small whole numbers: half a column is far more than its rounding.
      const auto rows_before = [&](int at) {
        return static_cast<int>((static_cast<float>(at) + 0.5f) * per_column);
      };
      if (skipped == 0 && columns % 4 == 0) {
        const int offset = rows_before(pixel), y = run_row + offset;
        const int low = pixel < run_pixels && !empty ? row_low[y] : -1;
        if (low >= 0) {
          const Real share = row_share[y];
          const Real* from = ring + pixel - offset * columns;
          const int step = row_high[y] - low;
          FVFAST_UNROLL
          for (int c = 0; c < kGroup; ++c) {
            Real lower[4], upper[4];
            load_four(from + low + c * pitch, lower);
            load_four(from + low + step + c * pitch, upper);
            FVFAST_UNROLL
            for (int i = 0; i < 4; ++i) {
              values[i * kGroup + c] = lower[i] + share * (upper[i] - lower[i]);
            }
          }
        }
      } else {
        FVFAST_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (pixel + i < 0 || pixel + i >= run_pixels || empty) continue;
          const int offset = rows_before(pixel + i), y = run_row + offset;
          const int low = row_low[y];
          if (low < 0) continue;
          const Real share = row_share[y];
          const Real* from = ring + pixel + i - offset * columns;
          FVFAST_UNROLL
          for (int c = 0; c < kGroup; ++c) {
            const Real lower = from[low + c * pitch], upper = from[row_high[y] + c * pitch];
            values[i * kGroup + c] = lower + share * (upper - lower);
          }
        }
      }
      if (noise.any() && pixel < run_pixels) {
        FVFAST_UNROLL
        for (int c = 0; c < kGroup; ++c) {
          Real four[4];
          noise.four(run_element + pixel + c * plane, four);
          FVFAST_UNROLL
          for (int i = 0; i < 4; ++i) values[i * kGroup + c] += four[i];
        }
      }

      if (kGroup == 1 && !tiling.dense) {
        FVFAST_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (pixel + i < 0 || pixel + i >= run_pixels) continue;
          const int offset = rows_before(pixel + i), x = pixel + i - offset * columns;
          out[(run_row + offset) * params.out_strides[3] + x * params.out_strides[4]] =
              Element::store(static_cast<typename Element::Real>(values[i * kGroup]));
        }
        continue;
      }
      constexpr int kWords = 4 * kGroup * static_cast<int>(sizeof(Storage)) / 4;  // of a lane
      constexpr int kUnits = kWords % 4 == 0 ? kWords / 4 : 0;
      uint32_t words[kWords];
      pack<Element>(values, words);
      if constexpr (kUnits > 0) {
        FVFAST_UNROLL
        for (int i = 0; i < kUnits; ++i) {
          reinterpret_cast<uint4*>(buffer)[swizzled<kUnits>(lane, i)] =
              make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
        }
      } else {
        FVFAST_UNROLL
        for (int i = 0; i < kWords / 2; ++i) {
          reinterpret_cast<uint2*>(buffer)[kWords / 2 * lane + i] =
              make_uint2(words[2 * i], words[2 * i + 1]);
        }
      }
      __syncwarp();
      write_out<Element, kUnits, kUnit * kGroup>(
          reinterpret_cast<const uint4*>(buffer),
          out + run_row * params.out_strides[3] + unit * kGroup, max(-unit, 0) * kGroup,
          min(run_pixels - unit, kUnit) * kGroup);
      __syncwarp();
    }
    __syncthreads();
  }
}

template <typename Real, typename Element, int kGroup>
void launch_crops(const CropParams& params, bool dense, const Target& target) {
  using Memory = CropMemory<Real, Element, kGroup>;
  constexpr int64_t kPixels = kGroup == 1 ? 4096 : 2048;  // of a tile
  CropTiling tiling{};
  const int64_t column_tiles = (params.width + Memory::kColumns - 1) / Memory::kColumns;
  tiling.columns = column_tiles > 1 ? Memory::kColumns : static_cast<int>(params.width);
  // Tiles of about the same height.
  const int64_t most_rows = std::clamp<int64_t>(kPixels / tiling.columns, 1, kCropRows);
  const int64_t most_tiles = (params.height + most_rows - 1) / most_rows;
  tiling.rows = static_cast<int>((params.height + most_tiles - 1) / most_tiles);
  const int64_t row_tiles = (params.height + tiling.rows - 1) / tiling.rows;
  const unsigned blocks =
      grid_x(column_tiles * row_tiles * (params.channels / kGroup), "crop_resize");
  tiling.column_tiles = static_cast<unsigned>(column_tiles);
  tiling.row_tiles = static_cast<unsigned>(row_tiles);
  tiling.dense = dense;
  const int64_t row_pixels = params.height > 1 ? params.out_strides[3] / kGroup : params.width;
  tiling.whole_rows = column_tiles == 1 && (!dense || row_pixels == params.width);
  const size_t image_bytes = sizeof(Real), out_bytes = sizeof(typename Element::Storage);
  const size_t box_bytes = params.box_dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);

  for (int64_t first = 0; first < params.batch; first += kStreamsPerLaunch) {
    const int64_t count = std::min<int64_t>(kStreamsPerLaunch, params.batch - first);
    CropParams part = params;
    part.images = static_cast<const char*>(params.images) +
                  first * params.image_strides[0] * static_cast<int64_t>(image_bytes);
    part.boxes = static_cast<const char*>(params.boxes) +
                 4 * first * params.crops * static_cast<int64_t>(box_bytes);
    part.out = static_cast<char*>(params.out) +
               first * params.out_strides[0] * static_cast<int64_t>(out_bytes);
    const Streams streams = streams_from(params.streams, first, count);
    for (int64_t crop = 0; crop < params.crops; crop += kGridYz) {
      tiling.first_crop = crop;
      const dim3 grid(blocks, grid_yz(params.crops - crop), static_cast<unsigned>(count));
      crop_kernel<Real, Element, kGroup>
          <<<grid, kCropThreads, 0, stream_of(target)>>>(part, tiling, streams);
      check_launch("crop_resize");
    }
  }
}

// Whether the channels of a pixel and the pixels of a row follow one another.
static bool is_woven(const CropParams& params, int64_t channels) {
  return params.channels == channels && params.out_strides[2] == 1 &&
         (params.width == 1 || params.out_strides[4] == channels);
}

template <typename Real, typename Element>
void launch_crops(const CropParams& params, const Target& target) {
  if constexpr (sizeof(Real) == sizeof(float) && sizeof(typename Element::Storage) <= 4) {
    if (is_woven(params, 3)) return launch_crops<Real, Element, 3>(params, true, target);
    if (is_woven(params, 4)) return launch_crops<Real, Element, 4>(params, true, target);
  }
  const bool dense = params.width == 1 || params.out_strides[4] == 1;
  launch_crops<Real, Element, 1>(params, dense, target);
}

template <typename Real>
void launch_crops(const CropParams& params, const Target& target) {
  switch (params.out_dtype) {
    case DType::kFloat32:
      return launch_crops<Real, Float32>(params, target);
    case DType::kFloat64:
      return launch_crops<Real, Float64>(params, target);
    case DType::kBFloat16:
      return launch_crops<Real, BFloat16>(params, target);
    case DType::kFloat16:
      return launch_crops<Real, Float16>(params, target);
  }
}

void crop_resize(const CropParams& params, const Target& target) {
  if (params.batch * params.crops * params.channels * params.height * params.width == 0) return;
  const DeviceGuard guard(target, "crop_resize");
  if (params.image_dtype == DType::kFloat64) return launch_crops<double>(params, target);
  launch_crops<float>(params, target);
}

}  // namespace fvfast::cuda
