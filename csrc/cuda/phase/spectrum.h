// What the kernels of the phase share: bins and statistics. The mathematics is explained in
// csrc/cpu/phase/phase_spectrum.cpp and phase_gradient.cpp.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/division.h"
#include "common/sincos.h"
#include "cuda/launch.h"
#include "cuda/phase/complex.h"
#include "cuda/warp_sum.h"
#include "ops.h"

namespace fvfast::cuda {

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

// How a phase is standardized: angle = (phase - mean) * scale.
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

// What an inverse transform of a plane is multiplied by.
template <typename Real>
__device__ __forceinline__ Real inverse_area(const SpectrumSizes& sizes) {
  return static_cast<Real>(1 /
                           (static_cast<double>(sizes.height) * static_cast<double>(sizes.width)));
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

// Mean and deviation of the image before its colors, in every thread of the warp that calls this,
// of the energy of each part of the columns without the bins [0, 0], and of the real part of that
// bin of each channel.
struct ImageMoments {
  double mean, deviation;
};

__device__ inline ImageMoments image_moments(const double* energies, int64_t parts,
                                             const double* constants, const SpectrumSizes& sizes) {
  const double energy = warp_sum_of(energies, parts);
  const double total = warp_sum_of(constants, sizes.channels);
  const double mean = total / static_cast<double>(sizes.channels);
  double spread = 0;
  for (int64_t channel = threadIdx.x % kWarp; channel < sizes.channels; channel += kWarp) {
    const double deviation = constants[channel] - mean;
    spread += deviation * deviation;
  }
  spread = warp_sum(spread);
  const double plane = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
  const double pixels = static_cast<double>(sizes.pixels());
  return {total / pixels, sqrt((energy + spread) / (plane * pixels))};
}

}  // namespace fvfast::cuda
