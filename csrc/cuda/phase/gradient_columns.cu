// Kernel F: from the half gradient, transformed along the rows, to the gradient of the phase,
// except for what needs sums over all bins; also those sums. Kernel G or a pass of its own finishes
// the gradient: see finish.h.
//
// Blocks, lanes and transforms are those of columns.cu. The spectrum is computed again from phase
// and magnitude, which costs less than reading it.
//
// Traffic: reads the complex half gradient, phase and magnitude, writes the gradient, each once.
#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/block_columns.h"
#include "cuda/phase/column_sums.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/scratch.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

template <typename Real>
struct GradientColumnsArguments {
  const Complex<Real>* transform;  // (N, C, H, pitch), with kTransform along the rows only
  int64_t pitch;
  const Real* magnitude;
  const Real* phase;
  const SpectrumStatistics* statistics;
  Real* out;  // (N, C, H, out_pitch)
  int64_t out_pitch;
  double* sums;       // (N, kColumnSums, C, column parts)
  double* edge_sums;  // (N, kEdgeSums, C, edge parts)
  EdgeTerm* edges;    // (N, C, H, 2)
  SpectrumSizes sizes;
  double epsilon;
  int64_t first_image;
  int lanes;
  int tiles;
  int edge_parts;  // of a channel
  TransformPlan plan;
};

// The column of a thread of gradient_columns_kernel, in each array, and what its bins add up to.
template <typename Real>
struct GradientColumn {
  const Complex<Real>* transformed;
  const Real* magnitude;  // rows of the phase lie `half` apart
  const Real* phase;
  Real* out;
  EdgeTerm* edges;
  int64_t half, pitch, out_pitch;
  bool edge;   // whether the column holds its own mirror image
  bool first;  // whether it is the one with the bin [0, 0]
  Angle angle;
  double area;
  Real weight;  // an inner column stands for two
  double sums[kColumnSums] = {}, edge_sums[kEdgeSums] = {};

  __device__ __forceinline__ GradientColumn(const GradientColumnsArguments<Real>& arguments,
                                            const BlockColumns& columns) {
    const SpectrumSizes& sizes = arguments.sizes;
    half = columns.half;
    pitch = arguments.pitch;
    out_pitch = arguments.out_pitch;
    const int64_t plane = columns.image * sizes.channels + columns.channel;
    const int64_t column = columns.column;
    transformed = arguments.transform + plane * sizes.height * pitch + column;
    magnitude = arguments.magnitude + columns.channel * sizes.height * half + column;
    phase = arguments.phase + plane * sizes.height * half + column;
    out = arguments.out + plane * sizes.height * out_pitch + column;
    edges = arguments.edges + plane * sizes.height * 2 + (column == 0 ? 0 : 1);
    edge = columns.valid && is_edge(sizes, column);
    first = column == 0;
    const SpectrumStatistics& statistics = arguments.statistics[columns.image];
    angle = {statistics.phase_mean, 1 / (statistics.phase_std + arguments.epsilon)};
    area = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
    weight = static_cast<Real>((edge ? 1 : 2) / area);
  }

  // Writes the first term of the gradient of a bin, adds to the sums, and returns the bin.
  __device__ __forceinline__ Complex<Real> make_first_term(int row, Complex<Real> b, Real size,
                                                           Real turns) {
    const Complex<Real> x = polar(size, turns, angle);
    const Real b_re = weight * b.re, b_im = weight * b.im;
    const Real gradient = b_im * x.re - b_re * x.im;
    out[row * out_pitch] = gradient;
    const double value = static_cast<double>(gradient);
    sums[kProduct] += static_cast<double>(b_re * x.re + b_im * x.im);
    sums[kGradient] += value;
    sums[kMoment] += value * (static_cast<double>(turns) - angle.mean);
    if (row == 0 && first) edge_sums[kTotal] += static_cast<double>(b.re);
    return x;
  }

  // Writes what the gradient of a bin of an edge column still misses, and adds to the sums.
  __device__ __forceinline__ void make_edge_term(int row, Complex<Real> x, Complex<Real> mirror) {
    const double moved = static_cast<double>(phase[row * half]) - angle.mean;
    EdgeTerm term;
    term.cross = (static_cast<double>(x.re) * static_cast<double>(mirror.im) +
                  static_cast<double>(x.im) * static_cast<double>(mirror.re)) /
                 (2 * area);
    term.constant = row == 0 && first ? static_cast<double>(x.im) : 0;
    edges[2 * row] = term;
    edge_sums[kCross] += term.cross;
    edge_sums[kCrossMoment] += term.cross * moved;
    edge_sums[kConstant] += term.constant;
    edge_sums[kConstantMoment] += term.constant * moved;
  }

  // The same for all rows of the thread; bin_of(row) returns the bins of the column.
  template <typename Bin>
  __device__ __forceinline__ void make_edge_terms(const BlockColumns& columns, const Bin& bin_of) {
    for (int row = columns.first_row; edge && row < columns.height; row += columns.row_step) {
      make_edge_term(row, bin_of(row), bin_of(columns.opposite(row)));
    }
  }
};

// A thread's rows of the gradient, where the transform is in registers.
template <typename Real>
__device__ __forceinline__ void gradient_in_registers(
    const GradientColumnsArguments<Real>& arguments, const BlockColumns& columns, void* shared,
    bool block_has_edge, GradientColumn<Real>& column) {
  const RegisterMemory<Real> memory(shared, columns.height, arguments.lanes);
  const AcrossLanes place = {arguments.lanes, columns.lane};
  // All numbers are asked for before the first is waited for, as far as registers hold them.
  constexpr bool kAhead = sizeof(Real) == 4;
  Complex<Real> points[kPoints] = {};
  Real sizes[kPoints] = {}, turns[kPoints] = {};
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    const int row = columns.first_row + i * columns.row_step;
    if (columns.valid) {
      points[i] = column.transformed[row * column.pitch];
      if (kAhead) sizes[i] = column.magnitude[row * column.half];
      if (kAhead) turns[i] = column.phase[row * column.half];
    }
  }
  memory.prepare(columns.height);
  register_transform<false>(points, memory, place, columns.height, columns.first_row);
  if (block_has_edge) __syncthreads();  // the last exchange has been read
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    const int row = columns.first_row + i * columns.row_step;
    if (!columns.valid) continue;
    if (!kAhead) sizes[i] = column.magnitude[row * column.half];
    if (!kAhead) turns[i] = column.phase[row * column.half];
    const Complex<Real> x = column.make_first_term(row, points[i], sizes[i], turns[i]);
    if (column.edge) memory.values[place.plain(row)] = x;
  }
  if (!block_has_edge) return;
  __syncthreads();
  column.make_edge_terms(columns, [&](int row) { return memory.values[place.plain(row)]; });
}

// The same in shared memory, or, without a transform, of what `transformed` has. The bins of an
// edge column replace the transform.
template <bool kTransform, typename Real>
__device__ __forceinline__ void gradient_in_shared(const GradientColumnsArguments<Real>& arguments,
                                                   const BlockColumns& columns, void* shared,
                                                   bool block_has_edge,
                                                   GradientColumn<Real>& column) {
  const TransformMemory<Real> memory(shared, columns.height, arguments.lanes);
  const Plain layout = {arguments.lanes};
  const ColumnLane<Real> lane = {memory, layout, columns.lane};
  if (kTransform) {
    memory.prepare(arguments.plan);
    __syncthreads();
    for (int row = columns.first_row; row < columns.height; row += columns.row_step) {
      Complex<Real> value = {0, 0};
      if (columns.valid) value = column.transformed[row * column.pitch];
      lane.input(row) = value;
    }
    transform<false>(memory, layout, arguments.plan);
  }
  for (int row = columns.first_row; columns.valid && row < columns.height;
       row += columns.row_step) {
    const Complex<Real> b = kTransform ? lane.output(row) : column.transformed[row * column.pitch];
    const int64_t at = row * column.half;
    const Complex<Real> x = column.make_first_term(row, b, column.magnitude[at], column.phase[at]);
    if (kTransform && column.edge) lane.output(row) = x;
  }
  if (!block_has_edge) return;
  if (kTransform) __syncthreads();
  column.make_edge_terms(columns, [&](int row) {
    const int64_t at = row * column.half;
    return kTransform ? lane.output(row)
                      : polar(column.magnitude[at], column.phase[at], column.angle);
  });
}

template <typename Real, Transform kTransform>
__global__ void __launch_bounds__(kTransformThreads, 1)
    gradient_columns_kernel(const GradientColumnsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[kEdgeSums * kMostPartsOfWarps];
  const SpectrumSizes& sizes = arguments.sizes;
  const BlockColumns columns(arguments);
  const bool block_has_edge = has_edge(sizes, columns.column - columns.lane, arguments.lanes);
  GradientColumn<Real> column(arguments, columns);
  if constexpr (kTransform == Transform::kInRegisters) {
    gradient_in_registers(arguments, columns, shared_memory, block_has_edge, column);
  } else {
    gradient_in_shared<kTransform == Transform::kInShared>(arguments, columns, shared_memory,
                                                           block_has_edge, column);
  }

  const PartOfBlock part(columns.half, columns.tile, arguments.lanes);
  put_column_sums(column.sums, arguments.lanes, sum_memory);
  __syncthreads();
  const double sum = column_sum<kColumnSums>(arguments.lanes, sum_memory);
  if (part.number < kColumnSums && part.valid) {
    const int64_t row = columns.image * kColumnSums + part.number;
    arguments.sums[(row * sizes.channels + columns.channel) * part.parts + part.part] = sum;
  }
  if (!block_has_edge) return;
  __syncthreads();
  put_column_sums(column.edge_sums, arguments.lanes, sum_memory);
  __syncthreads();
  const double edge_sum = column_sum<kEdgeSums>(arguments.lanes, sum_memory);
  const bool is_first = part.part == 0;
  const bool is_last = part.part == part.parts - 1;
  if (part.number < kEdgeSums && (is_first || (arguments.edge_parts == 2 && is_last))) {
    const int64_t row = columns.image * kEdgeSums + part.number;
    arguments.edge_sums[(row * sizes.channels + columns.channel) * arguments.edge_parts +
                        (is_first ? 0 : 1)] = edge_sum;
  }
}

// The kernel that transforms in one of the three ways.
template <typename Real>
auto gradient_columns_kernel_of(Transform transform) {
  switch (transform) {
    case Transform::kInRegisters:
      return &gradient_columns_kernel<Real, Transform::kInRegisters>;
    case Transform::kInShared:
      return &gradient_columns_kernel<Real, Transform::kInShared>;
    default:
      return &gradient_columns_kernel<Real, Transform::kElsewhere>;
  }
}

template <typename Real>
void launch_gradient_columns(const PhaseImageGradientParams& params, const void* transform,
                             const Target& target) {
  const SpectrumSizes& sizes = params.sizes;
  const DeviceGuard guard(target, "phase_image_gradient");
  const Tiling tiling = transform == nullptr
                            ? column_tiling(params.dtype, sizes, target.device)
                            : Tiling{kWideTileColumns, kWideThreads, 0, {}, Transform::kElsewhere};
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
  arguments.edge_sums = scratch.edge_sums;
  arguments.edge_parts = static_cast<int>(edge_parts(sizes, tiling.lanes));
  arguments.edges = scratch.edges;
  arguments.sizes = sizes;
  arguments.epsilon = params.epsilon;
  arguments.lanes = tiling.lanes;
  const int64_t tiles = tiles_of(sizes, tiling.lanes);
  const unsigned blocks = grid_x(sizes.channels * tiles, "phase_image_gradient");
  arguments.tiles = static_cast<int>(tiles);
  arguments.plan = tiling.plan;
  const auto kernel = gradient_columns_kernel_of<Real>(tiling.transform);
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
