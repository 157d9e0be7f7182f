// The end of the phase's gradient: what needs the sums over all bins. The mathematics is that of
// csrc/cpu/phase/phase_gradient.cpp; the sums come from gradient_columns.cu.
#pragma once

#include "cuda/phase/scratch.h"
#include "cuda/phase/spectrum.h"
#include "cuda/warp_sum.h"
#include "ops.h"

namespace fvfast::cuda {

struct UnfinishedGradient {
  const void* values;  // (N, C, H, pitch)
  int64_t pitch;
  const double* sums;       // (N, kColumnSums, count)
  const double* edge_sums;  // (N, kEdgeSums, edge_count)
  int64_t count, edge_count;
  const EdgeTerm* edges;  // (N, C, H, 2)
  const SpectrumStatistics* statistics;
  SpectrumSizes sizes;
  double epsilon;
};

inline UnfinishedGradient unfinished_of(const PhaseImageGradientParams& params, int lanes) {
  const GradientScratch scratch(params.scratch, params.dtype, params.sizes);
  UnfinishedGradient gradient{};
  gradient.values = scratch.unfinished;
  gradient.pitch = gradient_pitch_of(params.sizes);
  gradient.sums = scratch.sums;
  gradient.edge_sums = scratch.edge_sums;
  gradient.count = params.sizes.channels * column_parts(params.sizes, lanes);
  gradient.edge_count = params.sizes.channels * edge_parts(params.sizes, lanes);
  gradient.edges = scratch.edges;
  gradient.statistics = params.statistics;
  gradient.sizes = params.sizes;
  gradient.epsilon = params.epsilon;
  return gradient;
}

constexpr int kFinishSums = kColumnSums + kEdgeSums;  // a block has at least so many warps

// The numbers of one image that all its bins share.
template <typename Real>
struct FinishFactors {
  double cross, constant;  // of an edge term
  Real mean, slope, offset, scale;

  // From the sums: those of columns, then those of edges.
  __device__ void find(const UnfinishedGradient& gradient, int64_t image, const double* sums) {
    const double* const edges = sums + kColumnSums;
    const SpectrumStatistics statistics = gradient.statistics[image];
    const double pixels = static_cast<double>(gradient.sizes.pixels());
    const double bins = static_cast<double>(gradient.sizes.bins());
    const double deviation = statistics.image_std + gradient.epsilon;
    const double phase_deviation = statistics.phase_std + gradient.epsilon;
    // The deviation of a constant image has the gradient 0.
    cross = 0;
    if (statistics.image_std > 0) {
      cross = (sums[kProduct] - statistics.image_mean * edges[kTotal]) /
              (deviation * pixels * statistics.image_std);
    }
    constant = edges[kTotal] / pixels - cross * statistics.image_mean;
    const double total = sums[kGradient] + cross * edges[kCross] + constant * edges[kConstant];
    const double moment =
        sums[kMoment] + cross * edges[kCrossMoment] + constant * edges[kConstantMoment];
    const double divided =
        statistics.phase_std > 0 ? moment / (bins * phase_deviation * statistics.phase_std) : 0;
    // The rounding error of the mean goes to the offset: it may be as large as the deviation.
    mean = static_cast<Real>(statistics.phase_mean);
    const double left_out = statistics.phase_mean - static_cast<double>(mean);
    slope = static_cast<Real>(divided);
    offset = static_cast<Real>(total / bins - divided * left_out);
    scale = static_cast<Real>(1 / (deviation * phase_deviation));
  }
};

// Computes the factors of an image: a warp adds up each of the sums. `sums` holds kFinishSums
// numbers; it and `factors` are shared memory. Ends with a barrier.
template <typename Real>
__device__ __forceinline__ void find_factors(const UnfinishedGradient& gradient, int64_t image,
                                             double* sums, FinishFactors<Real>* factors) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp < kFinishSums) {
    const int edge = warp - kColumnSums;
    const double* const parts =
        edge < 0 ? gradient.sums + (image * kColumnSums + warp) * gradient.count
                 : gradient.edge_sums + (image * kEdgeSums + edge) * gradient.edge_count;
    const double sum = warp_sum_of(parts, edge < 0 ? gradient.count : gradient.edge_count);
    if (threadIdx.x % kWarp == 0) sums[warp] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) factors->find(gradient, image, sums);
  __syncthreads();
}

// A bin without what needs the sums.
template <typename Real>
struct UnfinishedBin {
  Real value;
  int64_t edge;  // the number of its edge term, or -1

  __device__ __forceinline__ Real finish(const FinishFactors<Real>& factors, const EdgeTerm* edges,
                                         Real phase) const {
    Real whole = value;
    if (edge >= 0) {
      const EdgeTerm term = edges[edge];
      whole = static_cast<Real>(static_cast<double>(value) + factors.cross * term.cross +
                                factors.constant * term.constant);
    }
    return factors.scale * ((whole - factors.offset) - factors.slope * (phase - factors.mean));
  }
};

// Reads the bins of an image from `first` on.
template <typename Real>
class UnfinishedBins {
 public:
  __device__ __forceinline__ UnfinishedBins(const UnfinishedGradient& gradient, int64_t image,
                                            int64_t first)
      : values_(static_cast<const Real*>(gradient.values) +
                image * gradient.sizes.rows() * gradient.pitch),
        pitch_(gradient.pitch),
        half_(static_cast<uint32_t>(gradient.sizes.half())),
        last_(gradient.sizes.width % 2 == 0 ? half_ - 1 : 0),
        first_row_(first / gradient.sizes.half()),
        first_column_(static_cast<uint32_t>(first - first_row_ * gradient.sizes.half())) {}

  __device__ __forceinline__ UnfinishedBin<Real> operator[](uint32_t index) const {
    // Counted from the first bin, 32 bits are enough, and their division is several times faster.
    const uint32_t row = (first_column_ + index) / half_;
    const uint32_t column = first_column_ + index - row * half_;
    const bool edge = column == 0 || column == last_;
    return {values_[(first_row_ + row) * pitch_ + column],
            edge ? 2 * (first_row_ + row) + (column == 0 ? 0 : 1) : -1};
  }

 private:
  const Real* values_;
  int64_t pitch_;
  uint32_t half_, last_;
  int64_t first_row_;
  uint32_t first_column_;
};

}  // namespace fvfast::cuda
