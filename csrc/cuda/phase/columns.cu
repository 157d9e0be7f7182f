// Kernel A: phase to half spectrum, transformed back along the columns; and the statistics that the
// second half of the way, rows.cu, needs.
//
// A block owns up to kTileColumns columns of one channel of one image. It computes their bins into
// shared memory, in digit-reversed order, sums the energy that Parseval's theorem asks for,
// transforms in place and writes the columns. Consecutive threads take consecutive columns.
//
// Traffic: reads phase and magnitude, writes the complex half image, each once.
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

template <typename Real>
struct ColumnsArguments {
  const Real* magnitude;
  const Real* phase;
  const double* phase_sums;  // (N, sum_parts, 2), counted from the phase's first element or from 0
  int64_t sum_parts;
  bool sums_from_first;
  Complex<Real>* out;  // (N, C, H, pitch)
  int64_t pitch;
  EnergyPart* parts;  // (N, C, tiles)
  SpectrumStatistics* statistics;
  SpectrumSizes sizes;
  double epsilon;
  int64_t first_image;
  int lanes;
  int tiles;  // of a channel
  TransformPlan plan;
};

constexpr int kSumThreads = 256;

// Sums of a phase and of its squares, counted from its first element, so that a large mean costs no
// accuracy. One block for each part.
template <typename Real>
__global__ void __launch_bounds__(kSumThreads)
    phase_sums_kernel(const Real* phase, int64_t bins, int64_t first_image, double* sums) {
  __shared__ double memory[2 * kMaxWarps];
  const int64_t image = first_image + blockIdx.y;
  const Real* values = phase + image * bins;
  const double origin = static_cast<double>(values[0]);
  const auto [begin, end] = bins_of_part(bins, blockIdx.x);
  double* const out = sums + 2 * (image * kUpdateParts + blockIdx.x);
  if (begin == end) {  // fewer bins than parts
    if (threadIdx.x < 2) out[threadIdx.x] = 0;
    return;
  }
  double totals[2] = {0, 0};
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const double value = static_cast<double>(values[i]) - origin;
    totals[0] += value;
    totals[1] += value * value;
  }
  block_sum(totals, memory);
  if (threadIdx.x == 0) {
    out[0] = totals[0];
    out[1] = totals[1];
  }
}

// How the phase of this block's image is standardised, in every thread.
template <typename Real>
__device__ SpectrumStatistics phase_moments(const ColumnsArguments<Real>& arguments, int64_t image,
                                            double* memory) {
  double totals[2] = {0, 0};
  for (int64_t i = threadIdx.x; i < arguments.sum_parts; i += blockDim.x) {
    const double* part = arguments.phase_sums + 2 * (image * arguments.sum_parts + i);
    totals[0] += part[0];
    totals[1] += part[1];
  }
  block_sum(totals, memory);
  const int64_t bins = arguments.sizes.bins();
  const double mean = totals[0] / static_cast<double>(bins);
  const double variance = totals[1] / static_cast<double>(bins) - mean * mean;
  const double origin =
      arguments.sums_from_first ? static_cast<double>(arguments.phase[image * bins]) : 0;
  SpectrumStatistics result{};
  result.phase_mean = origin + mean;
  result.phase_std = sqrt(variance < 0 ? 0 : variance);  // NaN passes
  return result;
}

// Without a transform the bins themselves are written, and nothing is kept in shared memory.
template <typename Real, bool kTransform>
__global__ void __launch_bounds__(kTransformThreads, sizeof(Real) == 4 ? 2 : 1)
    columns_kernel(const ColumnsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[2 * kMaxWarps];
  const SpectrumSizes& sizes = arguments.sizes;
  const int64_t half = sizes.half();
  const int64_t image = arguments.first_image + blockIdx.y;
  const int block = static_cast<int>(blockIdx.x);
  const int64_t channel = block / arguments.tiles, tile = block % arguments.tiles;
  const int height = static_cast<int>(sizes.height);
  const int lane = static_cast<int>(threadIdx.x) & (arguments.lanes - 1);
  const int first_row = static_cast<int>(threadIdx.x) / arguments.lanes;
  const int row_step = static_cast<int>(blockDim.x) / arguments.lanes;
  const int64_t column = tile * arguments.lanes + lane;
  const bool valid = column < half;

  const SpectrumStatistics statistics = phase_moments(arguments, image, sum_memory);
  const Angle angle = {statistics.phase_mean, 1 / (statistics.phase_std + arguments.epsilon)};
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    arguments.statistics[image].phase_mean = statistics.phase_mean;
    arguments.statistics[image].phase_std = statistics.phase_std;
  }

  const TransformMemory<Real> memory(shared_memory, height, arguments.lanes);
  const Plain layout = {arguments.lanes};
  if (kTransform) {
    memory.prepare(arguments.plan);
    __syncthreads();
  }

  const int64_t plane = channel * sizes.height * half;
  const Real* magnitude = arguments.magnitude + plane + column;
  const Real* phase = arguments.phase + image * sizes.bins() + plane + column;
  Complex<Real>* out =
      arguments.out + (image * sizes.channels + channel) * sizes.height * arguments.pitch + column;
  const bool edge = valid && is_edge(sizes, column);
  const auto bin_at = [&](int row) {
    return polar(magnitude[row * half], phase[row * half], angle);
  };
  double totals[2] = {0, 0};  // energy, constant
  for (int row = first_row; row < height; row += row_step) {
    Complex<Real> bin = {0, 0};
    if (valid) {
      const Real size = magnitude[row * half];
      bin = polar(size, phase[row * half], angle);
      if (!edge) totals[0] += 2 * static_cast<double>(size) * static_cast<double>(size);
    }
    if (kTransform) {
      memory.values[layout(memory.places[row], lane)] = bin;
    } else if (valid) {
      out[row * arguments.pitch] = bin;
    }
  }
  if (has_edge(sizes, tile * arguments.lanes, arguments.lanes)) {
    // What the inverse transform keeps of a column that holds its own mirror image.
    if (kTransform) __syncthreads();
    for (int row = first_row; edge && row < height; row += row_step) {
      const int opposite = row == 0 ? 0 : height - row;
      Complex<Real> bin, mirror;
      if (kTransform) {
        bin = memory.values[layout(memory.places[row], lane)];
        mirror = memory.values[layout(memory.places[opposite], lane)];
      } else {
        bin = bin_at(row);
        mirror = bin_at(opposite);
      }
      const double re = 0.5 * (static_cast<double>(bin.re) + static_cast<double>(mirror.re));
      const double im = 0.5 * (static_cast<double>(bin.im) - static_cast<double>(mirror.im));
      if (row == 0 && column == 0) {
        totals[1] = static_cast<double>(bin.re);
      } else {
        totals[0] += re * re + im * im;
      }
    }
  }
  block_sum(totals, sum_memory);
  if (threadIdx.x == 0) {
    arguments.parts[image * sizes.channels * arguments.tiles + blockIdx.x] = {totals[0], totals[1]};
  }

  if (kTransform) {
    transform<true>(memory, layout, arguments.plan);
    const Real scale = static_cast<Real>(
        1 / (static_cast<double>(sizes.height) * static_cast<double>(sizes.width)));
    if (!valid) return;
    for (int row = first_row; row < height; row += row_step) {
      const Complex<Real> value = memory.values[layout(row, lane)];
      out[row * arguments.pitch] = {scale * value.re, scale * value.im};
    }
  }
}

template <typename Real>
void run_columns(const PhaseImageParams& params, void* spectrum, const Target& target) {
  const SpectrumSizes& sizes = params.sizes;
  const DeviceGuard guard(target, "phase_image");
  const Tiling tiling = spectrum == nullptr
                            ? column_tiling(params.dtype, sizes, target.device)
                            : Tiling{kWideTileColumns, kTransformThreads / 2, 0, {}};
  const PhaseImageScratch scratch(params.scratch, params.dtype, sizes);
  ColumnsArguments<Real> arguments{};
  arguments.magnitude = static_cast<const Real*>(params.magnitude);
  arguments.phase = static_cast<const Real*>(params.phase);
  arguments.phase_sums = params.phase_sums;
  arguments.sum_parts = params.sum_parts;
  arguments.out = static_cast<Complex<Real>*>(spectrum == nullptr ? scratch.half_image : spectrum);
  arguments.pitch = spectrum == nullptr ? pitch_of(sizes) : sizes.half();
  arguments.parts = scratch.parts;
  arguments.statistics = params.statistics;
  arguments.sizes = sizes;
  arguments.epsilon = params.epsilon;
  arguments.lanes = tiling.lanes;
  const int64_t tiles = tiles_of(sizes, tiling.lanes);
  const unsigned blocks = grid_x(sizes.channels * tiles, "phase_image");
  arguments.tiles = static_cast<int>(tiles);
  arguments.plan = tiling.plan;
  if (params.phase_sums == nullptr) {
    arguments.phase_sums = scratch.phase_sums;
    arguments.sum_parts = kUpdateParts;
    arguments.sums_from_first = true;
  }
  const auto kernel =
      spectrum == nullptr ? &columns_kernel<Real, true> : &columns_kernel<Real, false>;
  allow_shared_memory(kernel, tiling.shared_bytes, target.device, "phase_image");
  for (int64_t first = 0; first < sizes.images; first += kGridYz) {
    const unsigned images = grid_yz(sizes.images - first);
    arguments.first_image = first;
    if (params.phase_sums == nullptr) {
      phase_sums_kernel<Real><<<dim3(kUpdateParts, images), kSumThreads, 0, stream_of(target)>>>(
          arguments.phase, sizes.bins(), first, scratch.phase_sums);
      check_launch("phase_image");
    }
    kernel<<<dim3(blocks, images), static_cast<unsigned>(tiling.threads), tiling.shared_bytes,
             stream_of(target)>>>(arguments);
    check_launch("phase_image");
  }
}

void phase_columns(const PhaseImageParams& params, void* spectrum, const Target& target) {
  if (params.dtype == DType::kFloat64) {
    run_columns<double>(params, spectrum, target);
  } else {
    run_columns<float>(params, spectrum, target);
  }
}

}  // namespace fvfast::cuda
