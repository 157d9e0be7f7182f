// What the kernels of the phase share: bins, pixels, statistics. The mathematics is explained in
// csrc/cpu/phase/phase_spectrum.cpp and csrc/cpu/phase/phase_gradient.cpp.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/sigmoid.h"
#include "common/sincos.h"
#include "cuda/block_sum.h"
#include "cuda/launch.h"
#include "cuda/phase/complex.h"
#include "ops.h"

namespace fvfast::cuda {

// Columns that one block transforms, at most: 16 numbers of 8 bytes fill the banks once.
constexpr int kTileColumns = 16;
// Without a transform nothing limits a block to that.
constexpr int kWideTileColumns = 32;

// Columns of the array between the two transforms: whole sectors of 32 bytes.
FVFAST_HOST_DEVICE int64_t pitch_of(const SpectrumSizes& sizes) {
  return (sizes.half() + 3) / 4 * 4;
}

// Columns of an unfinished gradient: whole sectors too.
FVFAST_HOST_DEVICE int64_t gradient_pitch_of(const SpectrumSizes& sizes) {
  return (sizes.half() + 7) / 8 * 8;
}

// The bins of a part of an image, [begin, end). They start where a sector does.
struct BinRange {
  int64_t begin, end;
};

__device__ __forceinline__ BinRange bins_of_part(int64_t bins, int64_t part) {
  const auto bound = [&](int64_t index) { return bins * index / kUpdateParts / kWarp * kWarp; };
  return {bound(part), part + 1 == kUpdateParts ? bins : bound(part + 1)};
}

FVFAST_HOST_DEVICE int64_t divided_up(int64_t number, int64_t divisor) {
  return (number + divisor - 1) / divisor;
}

// How a phase is standardised: angle = (phase - mean) * scale.
struct Angle {
  double mean, scale;
};

__device__ __forceinline__ Complex<float> polar(float magnitude, float phase, const Angle& angle) {
  float rest, sine, cosine;
  const double quarters = angle.scale * kQuartersPerRadian;
  const int quarter = split_quarters((static_cast<double>(phase) - angle.mean) * quarters, &rest);
  sincos_of_quarters(quarter, rest, &sine, &cosine);
  return {magnitude * cosine, magnitude * sine};
}

__device__ __forceinline__ Complex<double> polar(double magnitude, double phase,
                                                 const Angle& angle) {
  // In half turns, whose reduction needs no memory.
  constexpr double kHalfTurnsPerRadian = kQuartersPerRadian / 2;
  double sine, cosine;
  sincospi((phase - angle.mean) * (angle.scale * kHalfTurnsPerRadian), &sine, &cosine);
  return {magnitude * cosine, magnitude * sine};
}

// Whether a column holds both members of pairs of conjugate frequencies.
__device__ __forceinline__ bool is_edge(const SpectrumSizes& sizes, int64_t column) {
  return column == 0 || 2 * column == sizes.width;
}

// Whether one of the columns [first, first + count) does.
__device__ __forceinline__ bool has_edge(const SpectrumSizes& sizes, int64_t first, int count) {
  return first == 0 ||
         (2 * first <= sizes.width && sizes.width < 2 * (first + count) && sizes.width % 2 == 0);
}

// What a block of columns tells the statistics of the image: energy without the bin [0, 0], and the
// real part of that bin, which only the block with column 0 has.
struct alignas(16) EnergyPart {
  double energy;
  double constant;
};

// Mean and deviation of the image before its colours, in every thread. `memory` as of block_sum.
struct ImageMoments {
  double mean, deviation;
};

__device__ inline ImageMoments image_moments(const EnergyPart* parts, const SpectrumSizes& sizes,
                                             int tiles, double* memory) {
  double sums[2] = {0, 0};
  for (int64_t i = threadIdx.x; i < sizes.channels * tiles; i += blockDim.x) {
    sums[0] += parts[i].energy;
    sums[1] += parts[i].constant;
  }
  block_sum(sums, memory);
  const double mean = sums[1] / static_cast<double>(sizes.channels);
  double spread[1] = {0};
  for (int64_t channel = threadIdx.x; channel < sizes.channels; channel += blockDim.x) {
    const double deviation = parts[channel * tiles].constant - mean;
    spread[0] += deviation * deviation;
  }
  block_sum(spread, memory);
  const double plane = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
  const double pixels = static_cast<double>(sizes.pixels());
  return {sums[1] / pixels, sqrt((sums[0] + spread[0]) / (plane * pixels))};
}

// From standardised planes to the colours of a pixel, as in csrc/cpu/phase/spectrum_image.cpp.
template <typename Real, int planes>
struct PixelForward {
  Real mean, low, width;
  Real mix[planes][planes];  // row i is what plane i adds

  template <typename Params>
  __device__ PixelForward(const Params& params, double image_mean, double image_deviation) {
    const double scale = 1 / (image_deviation + params.epsilon);
    mean = static_cast<Real>(image_mean);
    low = static_cast<Real>(params.low);
    width = static_cast<Real>(params.high - params.low);
#pragma unroll
    for (int i = 0; i < planes; ++i) {
#pragma unroll
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? scale * params.colors[i][j] : scale);
      }
    }
  }

  __device__ __forceinline__ void run(const Real (&values)[planes], Real (&pixel)[planes]) const {
#pragma unroll
    for (int j = 0; j < planes; ++j) {
      Real sum = 0;
#pragma unroll
      for (int i = 0; i < planes; ++i) sum += (values[i] - mean) * mix[i][j];
      pixel[j] = sigmoid_of(sum) * width + low;
    }
  }
};

// The gradient before the sigmoid and the colours.
template <typename Real, int planes>
struct PixelBackward {
  Real low, high;
  Real mix[planes][planes];  // colours, divided by the width of the range

  template <typename Params>
  __device__ explicit PixelBackward(const Params& params)
      : low(static_cast<Real>(params.low)), high(static_cast<Real>(params.high)) {
    const double scale = 1 / (params.high - params.low);
#pragma unroll
    for (int i = 0; i < planes; ++i) {
#pragma unroll
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? scale * params.colors[i][j] : scale);
      }
    }
  }

  __device__ __forceinline__ void run(const Real (&gradient)[planes], const Real (&pixel)[planes],
                                      Real (&out)[planes]) const {
    Real slopes[planes];
#pragma unroll
    for (int j = 0; j < planes; ++j) {
      slopes[j] = gradient[j] * ((pixel[j] - low) * (high - pixel[j]));
    }
#pragma unroll
    for (int i = 0; i < planes; ++i) {
      out[i] = 0;
#pragma unroll
      for (int j = 0; j < planes; ++j) out[i] += slopes[j] * mix[i][j];
    }
  }
};

}  // namespace fvfast::cuda
