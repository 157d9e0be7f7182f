// The bins of the columns of kernel A, before the transform: columns.cu.
#pragma once

#include <cstdint>

#include "cuda/phase/block_columns.h"
#include "cuda/phase/complex.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/phase_moments.h"
#include "cuda/phase/spectrum.h"
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
  double* energies;   // (N, C, column parts)
  double* constants;  // (N, C)
  SpectrumStatistics* statistics;
  SpectrumSizes sizes;
  double epsilon;
  int64_t first_image;
  int lanes;
  int tiles;  // of a channel
  TransformPlan plan;
};

// The first warp computes how the phase of this block's image is standardized, for all threads
// after the next barrier.
template <typename Real>
__device__ __forceinline__ void find_angle(const ColumnsArguments<Real>& arguments, int64_t image,
                                           Angle* angle) {
  if (threadIdx.x >= kWarp) return;
  const int64_t bins = arguments.sizes.bins();
  const double origin =
      arguments.sums_from_first ? static_cast<double>(arguments.phase[image * bins]) : 0;
  const PhaseMoments moments = phase_moments(arguments.phase_sums + 2 * image * arguments.sum_parts,
                                             arguments.sum_parts, origin, bins);
  if (threadIdx.x != 0) return;
  *angle = {moments.mean, 1 / (moments.deviation + arguments.epsilon)};
  if (blockIdx.x == 0) {
    arguments.statistics[image].phase_mean = moments.mean;
    arguments.statistics[image].phase_std = moments.deviation;
  }
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

  // What a bin of an inner column, and of its mirror image, has of energy; 0 on an edge column.
  __device__ __forceinline__ double energy(Real size) const {
    return edge ? 0 : 2 * static_cast<double>(size) * static_cast<double>(size);
  }
};

// Adds the energy of what the inverse transform keeps of an edge column; bin_of(row) returns its
// bins. Writes the real part of the bin [0, 0], whose energy is not counted.
template <typename Bin>
__device__ __forceinline__ void add_edge_energy(const BlockColumns& columns, bool edge,
                                                const Bin& bin_of, double* constant,
                                                double (&energy)[1]) {
  for (int row = columns.first_row; edge && row < columns.height; row += columns.row_step) {
    const auto bin = bin_of(row), mirror = bin_of(columns.opposite(row));
    const double re = 0.5 * (static_cast<double>(bin.re) + static_cast<double>(mirror.re));
    const double im = 0.5 * (static_cast<double>(bin.im) - static_cast<double>(mirror.im));
    if (row == 0 && columns.column == 0) {
      *constant = static_cast<double>(bin.re);
    } else {
      energy[0] += re * re + im * im;
    }
  }
}

}  // namespace fvfast::cuda
