// The end of the phase's gradient: what needs the sums over all bins. The mathematics is that of
// csrc/cpu/phase/phase_gradient.cpp; the sums come from gradient_columns.cu.
#pragma once

#include "cuda/block_sum.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

struct UnfinishedGradient {
  const void* values;  // (N, C, H, pitch)
  int64_t pitch;
  const double* sums;  // (N, kGradientSums, count)
  int64_t count;
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
  gradient.count = params.sizes.channels * tiles_of(params.sizes, lanes);
  gradient.edges = scratch.edges;
  gradient.statistics = params.statistics;
  gradient.sizes = params.sizes;
  gradient.epsilon = params.epsilon;
  return gradient;
}

// Finishes the bins of one image. `memory` holds kGradientSums * kMaxWarps numbers.
template <typename Real>
class Finish {
 public:
  // For the bins of the image from `first` on.
  __device__ Finish(const UnfinishedGradient& gradient, int64_t image, int64_t first,
                    double* memory)
      : values_(static_cast<const Real*>(gradient.values) +
                image * gradient.sizes.rows() * gradient.pitch),
        pitch_(gradient.pitch),
        edges_(gradient.edges + image * gradient.sizes.rows() * 2),
        half_(static_cast<uint32_t>(gradient.sizes.half())),
        last_(gradient.sizes.width % 2 == 0 ? half_ - 1 : 0),
        first_row_(first / gradient.sizes.half()),
        first_column_(static_cast<uint32_t>(first - first_row_ * gradient.sizes.half())) {
    double sums[kGradientSums] = {};
    const double* parts = gradient.sums + image * kGradientSums * gradient.count;
    for (int64_t i = threadIdx.x; i < gradient.count; i += blockDim.x) {
#pragma unroll
      for (int j = 0; j < kGradientSums; ++j) sums[j] += parts[j * gradient.count + i];
    }
    block_sum(sums, memory);
    const SpectrumStatistics statistics = gradient.statistics[image];
    const double pixels = static_cast<double>(gradient.sizes.pixels());
    const double bins = static_cast<double>(gradient.sizes.bins());
    const double deviation = statistics.image_std + gradient.epsilon;
    const double phase_deviation = statistics.phase_std + gradient.epsilon;
    // The deviation of a constant image has the gradient 0.
    cross_ = 0;
    if (statistics.image_std > 0) {
      cross_ = (sums[kProduct] - statistics.image_mean * sums[kTotal]) /
               (deviation * pixels * statistics.image_std);
    }
    constant_ = sums[kTotal] / pixels - cross_ * statistics.image_mean;
    const double total = sums[kGradient] + cross_ * sums[kCross] + constant_ * sums[kConstant];
    const double moment =
        sums[kMoment] + cross_ * sums[kCrossMoment] + constant_ * sums[kConstantMoment];
    const double slope =
        statistics.phase_std > 0 ? moment / (bins * phase_deviation * statistics.phase_std) : 0;
    // The rounding error of the mean goes to the offset: it may be as large as the deviation.
    mean_ = static_cast<Real>(statistics.phase_mean);
    const double left_out = statistics.phase_mean - static_cast<double>(mean_);
    slope_ = static_cast<Real>(slope);
    offset_ = static_cast<Real>(total / bins - slope * left_out);
    scale_ = static_cast<Real>(1 / (deviation * phase_deviation));
  }

  // The gradient of bin first + `index`, which has this phase.
  __device__ __forceinline__ Real operator()(uint32_t index, Real phase) const {
    // Counted from the first bin, 32 bits are enough, and their division is several times faster.
    const uint32_t row = (first_column_ + index) / half_;
    const uint32_t column = first_column_ + index - row * half_;
    Real value = values_[(first_row_ + row) * pitch_ + column];
    if (column == 0 || column == last_) {
      const EdgeTerm term = edges_[2 * (first_row_ + row) + (column == 0 ? 0 : 1)];
      value = static_cast<Real>(static_cast<double>(value) + cross_ * term.cross +
                                constant_ * term.constant);
    }
    return scale_ * ((value - offset_) - slope_ * (phase - mean_));
  }

 private:
  const Real* values_;
  int64_t pitch_;
  const EdgeTerm* edges_;
  uint32_t half_, last_;
  int64_t first_row_;
  uint32_t first_column_;
  double cross_, constant_;
  Real mean_, slope_, offset_, scale_;
};

}  // namespace fvfast::cuda
