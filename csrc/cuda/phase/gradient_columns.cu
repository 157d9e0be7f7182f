// Kernel F: from the half gradient, transformed along the rows, to the gradient of the phase,
// except for what needs sums over all bins; also those sums. Kernel G or a pass of its own finishes
// the gradient: see finish.h.
//
// Blocks, lanes and loops are those of columns.cu. The spectrum is computed again from phase and
// magnitude, which costs less than reading it.
//
// Traffic: reads the complex half gradient, phase and magnitude, writes the gradient, each once.
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

// Fewer than kTransformThreads: each needs more registers.
constexpr int kGradientThreads = 256;

template <typename Real>
struct GradientColumnsArguments {
  const Complex<Real>* transform;  // (N, C, H, pitch), with kTransform along the rows only
  int64_t pitch;
  const Real* magnitude;
  const Real* phase;
  const SpectrumStatistics* statistics;
  Real* out;  // (N, C, H, out_pitch)
  int64_t out_pitch;
  double* sums;     // (N, kGradientSums, C, tiles)
  EdgeTerm* edges;  // (N, C, H, 2)
  SpectrumSizes sizes;
  double epsilon;
  int64_t first_image;
  int lanes;
  int tiles;
  TransformPlan plan;
};

// The column of a thread of gradient_columns_kernel, in each array.
template <typename Real>
struct GradientColumnOfArrays {
  const Real* magnitude;  // rows of the phase lie `half` apart
  const Real* phase;
  Real* out;
  EdgeTerm* edges;
  int64_t half;
  bool edge;  // whether the column holds its own mirror image

  __device__ __forceinline__ GradientColumnOfArrays(const GradientColumnsArguments<Real>& arguments,
                                                    const BlockColumns& columns) {
    const SpectrumSizes& sizes = arguments.sizes;
    half = columns.half;
    const int64_t plane = columns.image * sizes.channels + columns.channel;
    const int64_t column = columns.column;
    magnitude = arguments.magnitude + columns.channel * sizes.height * half + column;
    phase = arguments.phase + plane * sizes.height * half + column;
    out = arguments.out + plane * sizes.height * arguments.out_pitch + column;
    edges = arguments.edges + plane * sizes.height * 2 + (column == 0 ? 0 : 1);
    edge = columns.valid && is_edge(sizes, column);
  }

  __device__ __forceinline__ Complex<Real> bin(int row, const Angle& angle) const {
    return polar(magnitude[row * half], phase[row * half], angle);
  }
};

// Transforms the columns of the half gradient in shared memory.
template <typename Real>
__device__ __forceinline__ void transform_columns(const GradientColumnsArguments<Real>& arguments,
                                                  const BlockColumns& columns,
                                                  const Complex<Real>* transformed,
                                                  const ColumnLane<Real>& lane) {
  lane.memory.prepare(arguments.plan);
  __syncthreads();
  for (int row = columns.first_row; row < columns.height; row += columns.row_step) {
    Complex<Real> value = {0, 0};
    if (columns.valid) value = transformed[row * arguments.pitch];
    lane.input(row) = value;
  }
  transform<false>(lane.memory, lane.layout, arguments.plan);
}

// Writes the first term of the gradient, and adds to the sums. Leaves the bins of an edge column in
// the place of the transform.
template <bool kTransform, typename Real>
__device__ __forceinline__ void make_first_term(
    const GradientColumnsArguments<Real>& arguments, const BlockColumns& columns,
    const GradientColumnOfArrays<Real>& at, const Complex<Real>* transformed, const Angle& angle,
    Real weight, const ColumnLane<Real>& lane, double (&sums)[kGradientSums]) {
  for (int row = columns.first_row; columns.valid && row < columns.height;
       row += columns.row_step) {
    const Complex<Real> b = kTransform ? lane.output(row) : transformed[row * arguments.pitch];
    const Real turns = at.phase[row * at.half];
    const Complex<Real> x = polar(at.magnitude[row * at.half], turns, angle);
    const Real b_re = weight * b.re, b_im = weight * b.im;
    const Real gradient = b_im * x.re - b_re * x.im;
    at.out[row * arguments.out_pitch] = gradient;
    const double value = static_cast<double>(gradient);
    sums[kProduct] += static_cast<double>(b_re * x.re + b_im * x.im);
    sums[kGradient] += value;
    sums[kMoment] += value * (static_cast<double>(turns) - angle.mean);
    if (row == 0 && columns.column == 0) sums[kTotal] += static_cast<double>(b.re);
    if (kTransform && at.edge) lane.output(row) = x;
  }
}

// Writes what the gradient of an edge column still misses, and adds to the sums.
template <bool kTransform, typename Real>
__device__ __forceinline__ void make_edge_terms(const BlockColumns& columns,
                                                const GradientColumnOfArrays<Real>& at,
                                                const Angle& angle, double area,
                                                const ColumnLane<Real>& lane,
                                                double (&sums)[kGradientSums]) {
  for (int row = columns.first_row; at.edge && row < columns.height; row += columns.row_step) {
    const int opposite = columns.opposite(row);
    const Complex<Real> x = kTransform ? lane.output(row) : at.bin(row, angle);
    const Complex<Real> mirror = kTransform ? lane.output(opposite) : at.bin(opposite, angle);
    const double moved = static_cast<double>(at.phase[row * at.half]) - angle.mean;
    EdgeTerm term;
    term.cross = (static_cast<double>(x.re) * static_cast<double>(mirror.im) +
                  static_cast<double>(x.im) * static_cast<double>(mirror.re)) /
                 (2 * area);
    term.constant = row == 0 && columns.column == 0 ? static_cast<double>(x.im) : 0;
    at.edges[2 * row] = term;
    sums[kCross] += term.cross;
    sums[kCrossMoment] += term.cross * moved;
    sums[kConstant] += term.constant;
    sums[kConstantMoment] += term.constant * moved;
  }
}

template <typename Real, bool kTransform>
__global__ void __launch_bounds__(kGradientThreads, 2)
    gradient_columns_kernel(const GradientColumnsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[kGradientSums * kMaxWarps];
  const SpectrumSizes& sizes = arguments.sizes;
  const BlockColumns columns(arguments);
  const int64_t plane = columns.image * sizes.channels + columns.channel;
  const Complex<Real>* transformed =
      arguments.transform + plane * sizes.height * arguments.pitch + columns.column;
  const TransformMemory<Real> memory(shared_memory, columns.height, arguments.lanes);
  const ColumnLane<Real> lane = {memory, {arguments.lanes}, columns.lane};
  if (kTransform) transform_columns(arguments, columns, transformed, lane);

  const SpectrumStatistics statistics = arguments.statistics[columns.image];
  const Angle angle = {statistics.phase_mean, 1 / (statistics.phase_std + arguments.epsilon)};
  const GradientColumnOfArrays<Real> at(arguments, columns);
  const double area = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
  // An inner column stands for two.
  const Real weight = static_cast<Real>((at.edge ? 1 : 2) / area);
  double sums[kGradientSums] = {};
  make_first_term<kTransform>(arguments, columns, at, transformed, angle, weight, lane, sums);
  if (has_edge(sizes, columns.tile * arguments.lanes, arguments.lanes)) {
    if (kTransform) __syncthreads();
    make_edge_terms<kTransform>(columns, at, angle, area, lane, sums);
  }
  block_sum(sums, sum_memory);
  if (threadIdx.x != 0) return;
  const int64_t count = sizes.channels * arguments.tiles;
#pragma unroll
  for (int i = 0; i < kGradientSums; ++i) {
    arguments.sums[(columns.image * kGradientSums + i) * count + blockIdx.x] = sums[i];
  }
}

template <typename Real>
void launch_gradient_columns(const PhaseImageGradientParams& params, const void* transform,
                             const Target& target) {
  const SpectrumSizes& sizes = params.sizes;
  const DeviceGuard guard(target, "phase_image_gradient");
  const Tiling tiling = transform == nullptr
                            ? column_tiling(params.dtype, sizes, target.device, kGradientThreads)
                            : Tiling{kWideTileColumns, kGradientThreads, 0, {}};
  const GradientScratch scratch(params.scratch, params.dtype, sizes);
  GradientColumnsArguments<Real> arguments{};
  arguments.transform =
      static_cast<const Complex<Real>*>(transform == nullptr ? scratch.half_gradient : transform);
  arguments.pitch = transform == nullptr ? pitch_of(sizes) : sizes.half();
  arguments.magnitude = static_cast<const Real*>(params.magnitude);
  arguments.phase = static_cast<const Real*>(params.phase);
  arguments.statistics = params.statistics;
  arguments.out = static_cast<Real*>(scratch.unfinished);
  arguments.out_pitch = gradient_pitch_of(sizes);
  arguments.sums = scratch.sums;
  arguments.edges = scratch.edges;
  arguments.sizes = sizes;
  arguments.epsilon = params.epsilon;
  arguments.lanes = tiling.lanes;
  const int64_t tiles = tiles_of(sizes, tiling.lanes);
  const unsigned blocks = grid_x(sizes.channels * tiles, "phase_image_gradient");
  arguments.tiles = static_cast<int>(tiles);
  arguments.plan = tiling.plan;
  const auto kernel = transform == nullptr ? &gradient_columns_kernel<Real, true>
                                           : &gradient_columns_kernel<Real, false>;
  allow_shared_memory(kernel, tiling.shared_bytes, target.device, "phase_image_gradient");
  for (int64_t first = 0; first < sizes.images; first += kGridYz) {
    const unsigned images = grid_yz(sizes.images - first);
    arguments.first_image = first;
    kernel<<<dim3(blocks, images), static_cast<unsigned>(tiling.threads), tiling.shared_bytes,
             stream_of(target)>>>(arguments);
    check_launch("phase_image_gradient");
  }
}

void gradient_columns(const PhaseImageGradientParams& params, const void* transform,
                      const Target& target) {
  with_real(params.dtype,
            [&](auto real) { launch_gradient_columns<decltype(real)>(params, transform, target); });
}

}  // namespace fvfast::cuda
