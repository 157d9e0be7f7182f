// Kernel F: from the half gradient, transformed along the rows, to the gradient of the phase, but
// for what only the sums over all bins can tell; and those sums. Kernel G or a pass of its own
// finishes it: see finish.h.
//
// Blocks, lanes and loops are those of columns.cu. The spectrum is computed again from phase and
// magnitude, which costs less than reading it.
//
// Traffic: reads the complex half gradient, phase and magnitude, writes the gradient, each once.
#include "cuda/grid.h"
#include "cuda/launch.h"
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
  const Complex<Real>* transform;  // (N, C, H, pitch), to be transformed along the columns or not
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

template <typename Real, bool kTransform>
__global__ void __launch_bounds__(kGradientThreads, 2)
    gradient_columns_kernel(const GradientColumnsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[kGradientSums * kMaxWarps];
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
  const int64_t plane = image * sizes.channels + channel;
  const Complex<Real>* transformed =
      arguments.transform + plane * sizes.height * arguments.pitch + column;

  const TransformMemory<Real> memory(shared_memory, height, arguments.lanes);
  const Plain layout = {arguments.lanes};
  if (kTransform) {
    memory.prepare(arguments.plan);
    __syncthreads();
    for (int row = first_row; row < height; row += row_step) {
      Complex<Real> value = {0, 0};
      if (valid) value = transformed[row * arguments.pitch];
      memory.values[layout(memory.places[row], lane)] = value;
    }
    transform<false>(memory, layout, arguments.plan);
  }

  const SpectrumStatistics statistics = arguments.statistics[image];
  const Angle angle = {statistics.phase_mean, 1 / (statistics.phase_std + arguments.epsilon)};
  const Real* magnitude = arguments.magnitude + channel * sizes.height * half + column;
  const Real* phase = arguments.phase + plane * sizes.height * half + column;
  Real* out = arguments.out + plane * sizes.height * arguments.out_pitch + column;
  EdgeTerm* edges = arguments.edges + plane * sizes.height * 2 + (column == 0 ? 0 : 1);
  const bool edge = valid && is_edge(sizes, column);
  const double area = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
  // An inner column stands for two.
  const Real weight = static_cast<Real>((edge ? 1 : 2) / area);
  double sums[kGradientSums] = {};
  const auto bin_at = [&](int row) {
    return polar(magnitude[row * half], phase[row * half], angle);
  };
  for (int row = first_row; valid && row < height; row += row_step) {
    const Complex<Real> b =
        kTransform ? memory.values[layout(row, lane)] : transformed[row * arguments.pitch];
    const Real turns = phase[row * half];
    const Complex<Real> x = polar(magnitude[row * half], turns, angle);
    const Real b_re = weight * b.re, b_im = weight * b.im;
    const Real gradient = b_im * x.re - b_re * x.im;
    out[row * arguments.out_pitch] = gradient;
    const double value = static_cast<double>(gradient);
    sums[kProduct] += static_cast<double>(b_re * x.re + b_im * x.im);
    sums[kGradient] += value;
    sums[kMoment] += value * (static_cast<double>(turns) - statistics.phase_mean);
    if (row == 0 && column == 0) sums[kTotal] += static_cast<double>(b.re);
    if (kTransform && edge) memory.values[layout(row, lane)] = x;  // b is no longer needed
  }
  if (has_edge(sizes, tile * arguments.lanes, arguments.lanes)) {
    if (kTransform) __syncthreads();
    for (int row = first_row; edge && row < height; row += row_step) {
      const int opposite = row == 0 ? 0 : height - row;
      const Complex<Real> x = kTransform ? memory.values[layout(row, lane)] : bin_at(row);
      const Complex<Real> mirror =
          kTransform ? memory.values[layout(opposite, lane)] : bin_at(opposite);
      const double moved = static_cast<double>(phase[row * half]) - statistics.phase_mean;
      EdgeTerm term;
      term.cross = (static_cast<double>(x.re) * static_cast<double>(mirror.im) +
                    static_cast<double>(x.im) * static_cast<double>(mirror.re)) /
                   (2 * area);
      term.constant = row == 0 && column == 0 ? static_cast<double>(x.im) : 0;
      edges[2 * row] = term;
      sums[kCross] += term.cross;
      sums[kCrossMoment] += term.cross * moved;
      sums[kConstant] += term.constant;
      sums[kConstantMoment] += term.constant * moved;
    }
  }
  block_sum(sums, sum_memory);
  if (threadIdx.x != 0) return;
  const int64_t count = sizes.channels * arguments.tiles;
#pragma unroll
  for (int i = 0; i < kGradientSums; ++i) {
    arguments.sums[(image * kGradientSums + i) * count + blockIdx.x] = sums[i];
  }
}

template <typename Real>
void run_gradient_columns(const PhaseImageGradientParams& params, const void* transform,
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
  if (params.dtype == DType::kFloat64) {
    run_gradient_columns<double>(params, transform, target);
  } else {
    run_gradient_columns<float>(params, transform, target);
  }
}

}  // namespace fvfast::cuda
