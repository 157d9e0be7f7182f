// Crops, resizes and adds noise in one pass: each crop is written once and never read.
//
// A block makes some rows of one crop: of one channel, or of all channels where these lie next to
// each other in memory. It first works out where its columns and rows lie (samples.h). Then, a few
// rows at a time:
//
//   - a warp takes a row of the image, stages the part that is read in shared memory, and resamples
//     it along x (resample_row.h) into a ring of rows, where those that the next rows of the crop
//     need too are still found (ring.h);
//   - a thread blends two rows of the ring into four consecutive elements of each channel (blend.h)
//     and adds noise, of which four elements share a counter (noise_group.h);
//   - a warp writes what its threads made, 16 bytes at a time (emit.h).
//
// Traffic: a crop is written once. Each block reads the part of the image that it covers once, and
// two more rows.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/crop/blend.h"
#include "cuda/crop/emit.h"
#include "cuda/crop/resample_row.h"
#include "cuda/crop/ring.h"
#include "cuda/crop/samples.h"
#include "cuda/crop/tile.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/noise_group.h"
#include "ops.h"

namespace fvfast::cuda {

// What all threads need to know of the tile. In shared memory, because it would fill registers
// while rows are resampled.
template <typename Real>
struct SharedTile {
  int64_t image_offset, out_offset;
  int64_t first_element;
  int rows;
  NoiseNumbers<Real> noise;
};

// Adds noise to a lane's pixels; `element` is the number of the first.
template <int kGroup, typename Real>
__device__ __forceinline__ void add_noise(const NoiseSource<Real>& noise, int64_t element,
                                          int64_t plane, Real (&values)[4 * kGroup]) {
  FVFAST_UNROLL
  for (int c = 0; c < kGroup; ++c) {
    noise.template add_to_four<kGroup>(element + c * plane, values + c);
  }
}

// Writes a lane's pixels of one channel one by one, where the strides put them.
template <typename Element, typename Real>
__device__ __forceinline__ void write_apart(const CropParams& params, const RunPixels& run,
                                            const RingReader<Real>& reader, const Real (&values)[4],
                                            typename Element::Storage* out) {
  FVFAST_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (!run.contains(run.pixel + i)) continue;
    const int offset = reader.rows_before(run.pixel + i);
    const int x = run.pixel + i - offset * reader.columns;
    out[(run.row + offset) * params.out_strides[3] + x * params.out_strides[4]] =
        Element::store(static_cast<typename Element::Real>(values[i]));
  }
}

// Writes a warp's pixels, which follow one another in memory, by way of its buffer.
template <typename Element, int kGroup, typename Real>
__device__ __forceinline__ void write_dense(const ThreadPlace& thread, const CropParams& params,
                                            const RunPixels& run, const Real (&values)[4 * kGroup],
                                            unsigned char* buffer, typename Element::Storage* out) {
  put_into_buffer<Element>(thread, values, buffer);
  __syncwarp();
  write_out<Element, kUnitsOfLane<Element, 4 * kGroup>, kUnit * kGroup>(
      thread, reinterpret_cast<const uint4*>(buffer),
      out + run.row * params.out_strides[3] + run.first * kGroup, max(-run.first, 0) * kGroup,
      min(run.count - run.first, kUnit) * kGroup);
  __syncwarp();
}

// Blends rows [first, last) of the tile, adds noise and writes them.
template <typename Element, int kGroup, typename Real>
__device__ __forceinline__ void make_rows(const ThreadPlace& thread, const CropParams& params,
                                          const CropTiling& tiling, int first, int last,
                                          const SharedTile<Real>& shared,
                                          const RingReader<Real>& reader, unsigned char* buffer) {
  auto* out = static_cast<typename Element::Storage*>(params.out) + shared.out_offset;
  const int64_t plane = params.height * params.width;
  const int run_pixels = tiling.whole_rows ? (last - first) * reader.columns : reader.columns;
  const int runs = tiling.whole_rows ? 1 : last - first;
  const int units = (run_pixels + 3 + kUnit - 1) / kUnit;  // of a run
  for (int task = thread.warp; task < runs * units; task += kCropWarps) {
    const int index = tiling.whole_rows ? 0 : task / units;
    const int row = first + index;
    const int64_t run_element = shared.first_element + row * params.width;
    const int skipped = static_cast<int>(run_element & 3);
    const int unit = (task - index * units) * kUnit - skipped;
    const int pixel = unit + 4 * thread.lane;
    const RunPixels run = {row, unit, pixel, run_pixels, skipped};

    Real values[4 * kGroup];
    reader.template blend<kGroup>(run, values);
    const NoiseSource<Real> noise(shared.noise, params.seed);
    if (noise.any() && pixel < run_pixels) {
      add_noise<kGroup>(noise, run_element + pixel, plane, values);
    }
    if constexpr (kGroup == 1) {
      if (!tiling.dense) {
        write_apart<Element>(params, run, reader, values, out);
        continue;
      }
    }
    write_dense<Element, kGroup>(thread, params, run, values, buffer, out);
  }
}

template <typename Real, typename Element, int kGroup>
__global__ void __launch_bounds__(kCropThreads, CropMemory<Real, Element, kGroup>::kBlocks)
    crop_kernel(const CropParams params, const CropTiling tiling, const Identities identities) {
  using Memory = CropMemory<Real, Element, kGroup>;
  __shared__ alignas(16) Real ring[Memory::kRing];
  __shared__ alignas(16) unsigned char buffers[kCropWarps * Memory::kBuffer];
  __shared__ int column_lower[Memory::kColumns];
  __shared__ Real column_share[Memory::kColumns];
  __shared__ int row_lower[kCropRows], row_low[kCropRows], row_high[kCropRows];
  __shared__ Real row_share[kCropRows];
  __shared__ int inside[4];
  __shared__ float spacings[2];
  __shared__ SharedTile<Real> shared;
  const TileSamples<Real> samples = {column_lower, column_share, row_lower,
                                     row_share,    inside,       spacings};
  const ThreadPlace thread;
  const CropTile<kGroup> tile(params, tiling);

  place_samples(thread, params, tile, samples);
  // A thread of the warps that place few samples.
  if (thread.index == kCropThreads - kWarp) {
    shared = {tile.image_offset(params), tile.out_offset(params), tile.first_element(params),
              tile.rows, noise_numbers<Real>(params, identities.of(tile.image))};
  }
  __syncthreads();
  const RingLayout<Memory, kGroup> layout(tile.columns, spacings[1]);
  find_inside_columns(thread, tile.columns, samples);
  place_rows(thread, tile.rows, static_cast<int>(params.image_height), layout, samples,
             {row_low, row_high});
  __syncthreads();

  const RowSamples<Real> columns = {column_lower, column_share, tile.columns,
                                    inside[0],    inside[1],    spacings[0]};
  const bool empty = inside[0] >= inside[1];
  unsigned char* buffer = buffers + thread.warp * Memory::kBuffer;
  const RingReader<Real> reader = {ring,
                                   layout.pitch,
                                   row_low,
                                   row_high,
                                   row_share,
                                   tile.columns,
                                   __fdividef(1.0f, static_cast<float>(tile.columns)),
                                   empty};

  HeldRows held;
  for (int first = 0; first < shared.rows; first += layout.pass) {
    const int last = min(first + layout.pass, shared.rows);
    const int begin = max(first, inside[2]), end = min(last, inside[3]);
    if (begin < end && !empty) {
      const Real* pixels = static_cast<const Real*>(params.images) + shared.image_offset;
      fill_ring(thread, params, pixels, begin, end, layout, row_lower, columns, held,
                reinterpret_cast<Real*>(buffer), ring);
    }
    __syncthreads();
    make_rows<Element, kGroup>(thread, params, tiling, first, last, shared, reader, buffer);
    __syncthreads();
  }
}

// Tiles of about the same height.
template <typename Memory, int kGroup>
CropTiling tiling_of(const CropParams& params, bool dense) {
  constexpr int64_t kPixels = kGroup == 1 ? kCropPixels : kCropPixels / 2;
  CropTiling tiling{};
  const int64_t column_tiles = divided_up(params.width, Memory::kColumns);
  tiling.columns = column_tiles > 1 ? Memory::kColumns : static_cast<int>(params.width);
  const int64_t most_rows = std::clamp<int64_t>(kPixels / tiling.columns, 1, kCropRows);
  tiling.rows = static_cast<int>(divided_up(params.height, divided_up(params.height, most_rows)));
  const int64_t row_tiles = divided_up(params.height, tiling.rows);
  tiling.column_tiles = static_cast<unsigned>(column_tiles);
  tiling.row_tiles = static_cast<unsigned>(row_tiles);
  tiling.dense = dense;
  const int64_t row_pixels = params.height > 1 ? params.out_strides[3] / kGroup : params.width;
  tiling.whole_rows = column_tiles == 1 && (!dense || row_pixels == params.width);
  return tiling;
}

// The arguments for the images from `first` on.
template <typename Real, typename Element>
CropParams from_image(const CropParams& params, int64_t first) {
  CropParams part = params;
  const int64_t box_bytes = params.box_dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
  part.images = static_cast<const Real*>(params.images) + first * params.image_strides[0];
  part.boxes = static_cast<const char*>(params.boxes) + 4 * first * params.crops * box_bytes;
  part.out = static_cast<typename Element::Storage*>(params.out) + first * params.out_strides[0];
  return part;
}

// Blocks of kGroup channels each.
template <typename Real, typename Element, int kGroup>
void launch_crop_kernel(const CropParams& params, bool dense, const Target& target) {
  CropTiling tiling = tiling_of<CropMemory<Real, Element, kGroup>, kGroup>(params, dense);
  const unsigned blocks = grid_x(
      int64_t{tiling.column_tiles} * tiling.row_tiles * (params.channels / kGroup), "crop_resize");
  for (int64_t first = 0; first < params.batch; first += kIdentitiesPerLaunch) {
    const int64_t count = std::min<int64_t>(kIdentitiesPerLaunch, params.batch - first);
    const CropParams part = from_image<Real, Element>(params, first);
    const Identities identities = identities_from(params, first, count);
    for (int64_t crop = 0; crop < params.crops; crop += kGridYz) {
      tiling.first_crop = crop;
      const dim3 grid(blocks, grid_yz(params.crops - crop), static_cast<unsigned>(count));
      crop_kernel<Real, Element, kGroup>
          <<<grid, kCropThreads, 0, stream_of(target)>>>(part, tiling, identities);
      check_launch("crop_resize");
    }
  }
}

// Whether the channels of a pixel and the pixels of a row follow one another.
static bool is_interleaved(const CropParams& params, int64_t channels) {
  return params.channels == channels && params.out_strides[2] == 1 &&
         (params.width == 1 || params.out_strides[4] == channels);
}

// All channels of a pixel in one block where they are interleaved; otherwise each by itself.
template <typename Real, typename Element>
void launch_by_channels(const CropParams& params, const Target& target) {
  if constexpr (sizeof(Real) == sizeof(float) && sizeof(typename Element::Storage) <= 4) {
    if (is_interleaved(params, 3))
      return launch_crop_kernel<Real, Element, 3>(params, true, target);
    if (is_interleaved(params, 4))
      return launch_crop_kernel<Real, Element, 4>(params, true, target);
  }
  const bool dense = params.width == 1 || params.out_strides[4] == 1;
  launch_crop_kernel<Real, Element, 1>(params, dense, target);
}

void crop_resize(const CropParams& params, const Target& target) {
  if (params.batch * params.crops * params.channels * params.height * params.width == 0) return;
  const DeviceGuard guard(target, "crop_resize");
  with_real(params.image_dtype, [&](auto real) {
    with_element(params.out_dtype, [&](auto element) {
      launch_by_channels<decltype(real), decltype(element)>(params, target);
    });
  });
}

}  // namespace fvfast::cuda
