// Kernel A: from the phase to the half spectrum, and its inverse transform along the columns; also
// the statistics that the other half of the way (rows.cu) needs.
//
// A block owns up to kTileColumns columns of one channel of one image. It computes their bins into
// shared memory, in digit-reversed order, sums the energy that Parseval's theorem asks for,
// transforms in place and writes the columns. Consecutive threads take consecutive columns.
//
// Traffic: reads phase and magnitude, writes the complex half image, each once.
#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/block_columns.h"
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

// How the phase of this block's image is standardized, in every thread.
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

// The column of a thread of columns_kernel, in each array.
template <typename Real>
struct ColumnOfArrays {
  const Real* magnitude;  // rows lie `half` apart
  const Real* phase;
  Complex<Real>* out;
  int64_t half;
  bool edge;  // whether the column holds its own mirror image

  __device__ __forceinline__ ColumnOfArrays(const ColumnsArguments<Real>& arguments,
                                            const BlockColumns& columns) {
    const SpectrumSizes& sizes = arguments.sizes;
    half = columns.half;
    const int64_t plane = columns.channel * sizes.height * half;
    magnitude = arguments.magnitude + plane + columns.column;
    phase = arguments.phase + columns.image * sizes.bins() + plane + columns.column;
    out = arguments.out +
          (columns.image * sizes.channels + columns.channel) * sizes.height * arguments.pitch +
          columns.column;
    edge = columns.valid && is_edge(sizes, columns.column);
  }

  __device__ __forceinline__ Complex<Real> bin(int row, const Angle& angle) const {
    return polar(magnitude[row * half], phase[row * half], angle);
  }
};

// Computes the bins of a thread, into shared memory to be transformed, or into `out`. Returns their
// energy, of an inner column that of its mirror image too, and none of an edge column.
template <bool kTransform, typename Real>
__device__ __forceinline__ double make_bins(const ColumnsArguments<Real>& arguments,
                                            const BlockColumns& columns,
                                            const ColumnOfArrays<Real>& at, const Angle& angle,
                                            const ColumnLane<Real>& lane) {
  double energy = 0;
  for (int row = columns.first_row; row < columns.height; row += columns.row_step) {
    Complex<Real> bin = {0, 0};
    if (columns.valid) {
      const Real size = at.magnitude[row * at.half];
      bin = polar(size, at.phase[row * at.half], angle);
      if (!at.edge) energy += 2 * static_cast<double>(size) * static_cast<double>(size);
    }
    if (kTransform) {
      lane.input(row) = bin;
    } else if (columns.valid) {
      at.out[row * arguments.pitch] = bin;
    }
  }
  return energy;
}

// Adds the energy of what the inverse transform keeps of an edge column to totals[0]; the real part
// of the bin [0, 0] is totals[1].
template <bool kTransform, typename Real>
__device__ __forceinline__ void add_edge_energy(const BlockColumns& columns,
                                                const ColumnOfArrays<Real>& at, const Angle& angle,
                                                const ColumnLane<Real>& lane, double (&totals)[2]) {
  for (int row = columns.first_row; at.edge && row < columns.height; row += columns.row_step) {
    const int opposite = columns.opposite(row);
    Complex<Real> bin, mirror;
    if (kTransform) {
      bin = lane.input(row);
      mirror = lane.input(opposite);
    } else {
      bin = at.bin(row, angle);
      mirror = at.bin(opposite, angle);
    }
    const double re = 0.5 * (static_cast<double>(bin.re) + static_cast<double>(mirror.re));
    const double im = 0.5 * (static_cast<double>(bin.im) - static_cast<double>(mirror.im));
    if (row == 0 && columns.column == 0) {
      totals[1] = static_cast<double>(bin.re);
    } else {
      totals[0] += re * re + im * im;
    }
  }
}

// Without a transform the bins themselves are written, and nothing is kept in shared memory.
template <typename Real, bool kTransform>
__global__ void __launch_bounds__(kTransformThreads, sizeof(Real) == 4 ? 2 : 1)
    columns_kernel(const ColumnsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[2 * kMaxWarps];
  const SpectrumSizes& sizes = arguments.sizes;
  const BlockColumns columns(arguments);

  const SpectrumStatistics statistics = phase_moments(arguments, columns.image, sum_memory);
  const Angle angle = {statistics.phase_mean, 1 / (statistics.phase_std + arguments.epsilon)};
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    arguments.statistics[columns.image].phase_mean = statistics.phase_mean;
    arguments.statistics[columns.image].phase_std = statistics.phase_std;
  }

  const TransformMemory<Real> memory(shared_memory, columns.height, arguments.lanes);
  const Plain layout = {arguments.lanes};
  const ColumnLane<Real> lane = {memory, layout, columns.lane};
  if (kTransform) {
    memory.prepare(arguments.plan);
    __syncthreads();
  }
  const ColumnOfArrays<Real> at(arguments, columns);
  double totals[2] = {0, 0};  // energy, constant
  totals[0] = make_bins<kTransform>(arguments, columns, at, angle, lane);
  if (has_edge(sizes, columns.tile * arguments.lanes, arguments.lanes)) {
    if (kTransform) __syncthreads();
    add_edge_energy<kTransform>(columns, at, angle, lane, totals);
  }
  block_sum(totals, sum_memory);
  if (threadIdx.x == 0) {
    arguments.parts[columns.image * sizes.channels * arguments.tiles + blockIdx.x] = {totals[0],
                                                                                      totals[1]};
  }

  if (kTransform) {
    transform<true>(memory, layout, arguments.plan);
    const Real scale = static_cast<Real>(
        1 / (static_cast<double>(sizes.height) * static_cast<double>(sizes.width)));
    if (!columns.valid) return;
    for (int row = columns.first_row; row < columns.height; row += columns.row_step) {
      const Complex<Real> value = lane.output(row);
      at.out[row * arguments.pitch] = {scale * value.re, scale * value.im};
    }
  }
}

template <typename Real>
void launch_columns(const PhaseImageParams& params, void* spectrum, const Target& target) {
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
  with_real(params.dtype,
            [&](auto real) { launch_columns<decltype(real)>(params, spectrum, target); });
}

}  // namespace fvfast::cuda
