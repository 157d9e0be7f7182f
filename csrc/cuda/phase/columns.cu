// Kernel A: from the phase to the half spectrum, and its inverse transform along the columns; also
// the statistics that the other half of the way (image_rows.cu) needs.
//
// A block owns some neighboring columns of one channel of one image. It computes their bins, sums
// the energy that Parseval's theorem asks for, transforms and writes the columns. Consecutive
// threads take consecutive columns. Where the transform is in registers, the bins never leave them.
//
// Traffic: reads phase and magnitude, writes the complex half image, each once.
#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/block_columns.h"
#include "cuda/phase/column_bins.h"
#include "cuda/phase/column_sums.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/phase_moments.h"
#include "cuda/phase/scratch.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

// Computes the bins of a thread and transforms them in registers; what goes on in between with the
// bins of an edge column is left to with_edge(bin_of).
template <typename Real, typename WithEdge>
__device__ __forceinline__ void columns_in_registers(const ColumnsArguments<Real>& arguments,
                                                     const BlockColumns& columns,
                                                     const ColumnOfArrays<Real>& at,
                                                     Angle* shared_angle, void* shared,
                                                     double* sum_memory,
                                                     const WithEdge& with_edge) {
  const RegisterMemory<Real> memory(shared, columns.height, arguments.lanes);
  const AcrossLanes place = {arguments.lanes, columns.lane};
  // All numbers are asked for before the first is waited for.
  Real sizes[kPoints] = {}, turns[kPoints] = {};
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    const int row = columns.first_row + i * columns.row_step;
    if (columns.valid) {
      sizes[i] = at.magnitude[row * at.half];
      turns[i] = at.phase[row * at.half];
    }
  }
  find_angle(arguments, columns.image, shared_angle);
  memory.prepare(columns.height);
  __syncthreads();
  const Angle angle = *shared_angle;
  Complex<Real> bins[kPoints];
  double energy[1] = {0};
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    bins[i] = polar(sizes[i], turns[i], angle);  // 0 where there is no column
    energy[0] += at.energy(sizes[i]);
  }
  if (has_edge(arguments.sizes, columns.column - columns.lane, arguments.lanes)) {
#pragma unroll
    for (int i = 0; i < kPoints; ++i) {
      memory.values[place.plain(columns.first_row + i * columns.row_step)] = bins[i];
    }
    __syncthreads();
    with_edge([&](int row) { return memory.values[place.plain(row)]; }, energy);
    __syncthreads();
  }
  put_column_sums(energy, arguments.lanes, sum_memory);
  register_transform<true>(bins, memory, place, columns.height, columns.first_row);
  if (!columns.valid) return;
  const Real scale = inverse_area<Real>(arguments.sizes);
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    at.out[(columns.first_row + i * columns.row_step) * arguments.pitch] = {scale * bins[i].re,
                                                                            scale * bins[i].im};
  }
}

// The same in shared memory, or, without a transform, straight to `out`.
template <bool kTransform, typename Real, typename WithEdge>
__device__ __forceinline__ void columns_in_shared(const ColumnsArguments<Real>& arguments,
                                                  const BlockColumns& columns,
                                                  const ColumnOfArrays<Real>& at,
                                                  Angle* shared_angle, void* shared,
                                                  double* sum_memory, const WithEdge& with_edge) {
  const TransformMemory<Real> memory(shared, columns.height, arguments.lanes);
  const Plain layout = {arguments.lanes};
  const ColumnLane<Real> lane = {memory, layout, columns.lane};
  find_angle(arguments, columns.image, shared_angle);
  if (kTransform) memory.prepare(arguments.plan);
  __syncthreads();
  const Angle angle = *shared_angle;
  double energy[1] = {0};
  for (int row = columns.first_row; row < columns.height; row += columns.row_step) {
    Complex<Real> bin = {0, 0};
    if (columns.valid) {
      const Real size = at.magnitude[row * at.half];
      bin = polar(size, at.phase[row * at.half], angle);
      energy[0] += at.energy(size);
    }
    if (kTransform) {
      lane.input(row) = bin;
    } else if (columns.valid) {
      at.out[row * arguments.pitch] = bin;
    }
  }
  if (has_edge(arguments.sizes, columns.column - columns.lane, arguments.lanes)) {
    if (kTransform) __syncthreads();
    with_edge([&](int row) { return kTransform ? lane.input(row) : at.bin(row, angle); }, energy);
  }
  put_column_sums(energy, arguments.lanes, sum_memory);
  if (!kTransform) {
    __syncthreads();
    return;
  }
  transform<true>(memory, layout, arguments.plan);
  if (!columns.valid) return;
  const Real scale = inverse_area<Real>(arguments.sizes);
  for (int row = columns.first_row; row < columns.height; row += columns.row_step) {
    const Complex<Real> value = lane.output(row);
    at.out[row * arguments.pitch] = {scale * value.re, scale * value.im};
  }
}

// How many blocks of the most threads a multiprocessor is to have room for. A transform in
// registers needs more of them than two would leave, but mostly has blocks of half the threads.
template <typename Real>
constexpr int blocks_of_columns(Transform transform) {
  return transform == Transform::kInRegisters || sizeof(Real) == 8 ? 1 : 2;
}

template <typename Real, Transform kTransform>
__global__ void __launch_bounds__(kTransformThreads, blocks_of_columns<Real>(kTransform))
    columns_kernel(const ColumnsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[kMostPartsOfWarps];
  __shared__ Angle angle;
  const BlockColumns columns(arguments);
  const ColumnOfArrays<Real> at(arguments, columns);
  const auto with_edge = [&](const auto& bin_of, double (&energy)[1]) {
    add_edge_energy(
        columns, at.edge, bin_of,
        arguments.constants + columns.image * arguments.sizes.channels + columns.channel, energy);
  };
  if constexpr (kTransform == Transform::kInRegisters) {
    columns_in_registers(arguments, columns, at, &angle, shared_memory, sum_memory, with_edge);
  } else {
    columns_in_shared<kTransform == Transform::kInShared>(arguments, columns, at, &angle,
                                                          shared_memory, sum_memory, with_edge);
  }
  const double sum = column_sum<1>(arguments.lanes, sum_memory);
  const PartOfBlock part(columns.half, columns.tile, arguments.lanes);
  if (part.number < 1 && part.valid) {
    arguments.energies[(columns.image * arguments.sizes.channels + columns.channel) * part.parts +
                       part.part] = sum;
  }
}

// The kernel that transforms in one of the three ways.
template <typename Real>
auto columns_kernel_of(Transform transform) {
  switch (transform) {
    case Transform::kInRegisters:
      return &columns_kernel<Real, Transform::kInRegisters>;
    case Transform::kInShared:
      return &columns_kernel<Real, Transform::kInShared>;
    default:
      return &columns_kernel<Real, Transform::kElsewhere>;
  }
}

template <typename Real>
void launch_columns(const PhaseImageParams& params, void* spectrum, const Target& target) {
  const SpectrumSizes& sizes = params.sizes;
  const DeviceGuard guard(target, "phase_image");
  const Tiling tiling = spectrum == nullptr
                            ? column_tiling(params.dtype, sizes, target.device)
                            : Tiling{kWideTileColumns, kWideThreads, 0, {}, Transform::kElsewhere};
  const PhaseImageScratch scratch(params.scratch, params.dtype, sizes);
  ColumnsArguments<Real> arguments{};
  arguments.magnitude = static_cast<const Real*>(params.magnitude);
  arguments.phase = static_cast<const Real*>(params.phase);
  arguments.phase_sums = params.phase_sums;
  arguments.sum_parts = params.sum_parts;
  arguments.out = static_cast<Complex<Real>*>(spectrum == nullptr ? scratch.half_image : spectrum);
  arguments.pitch = spectrum == nullptr ? pitch_of(sizes) : sizes.half();
  arguments.energies = scratch.energies;
  arguments.constants = scratch.constants;
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
  const auto kernel = columns_kernel_of<Real>(tiling.transform);
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
