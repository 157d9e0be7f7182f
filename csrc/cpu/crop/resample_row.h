// Resampling of one row, and its transpose: the inner loops of cropping.
//
// Both are weighted gathers. Neighboring samples read neighboring pixels, so with AVX-512 a
// permutation of two registers replaces a gather instruction, which is many times slower.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/bilinear.h"
#include "common/macros.h"
#include "cpu/simd.h"

namespace fvfast::cpu {

constexpr int kColumns = 256;  // samples of one row that are done at a time
constexpr int kVector = 16;    // pixels whose gradients are summed at a time

// The samples [0, count) of a row. Those outside [begin, end) lie outside the image.
template <typename Real>
struct Samples {
  int begin;
  int end;
  int32_t lower[kColumns];  // offsets of pixels
  int32_t upper[kColumns];
  Real share[kColumns];  // of the upper pixel
};

template <typename Real>
FVFAST_HOST_DEVICE void place_samples(const Axis& axis, int64_t first, int count, int64_t length,
                                      int64_t stride, Samples<Real>& samples) {
  alignas(64) double positions[kColumns];
  axis.positions(first, count, positions);
  // Positions are monotonic: the inside is one range.
  int begin = 0, end = count;
  while (begin < end && !axis.contains(positions[begin])) ++begin;
  while (begin < end && !axis.contains(positions[end - 1])) --end;
  samples.begin = begin;
  samples.end = end;
  const int32_t last = static_cast<int32_t>(length - 1), step = static_cast<int32_t>(stride);
  for (int i = begin; i < end; ++i) {
    const int32_t lower = static_cast<int32_t>(positions[i]);  // not negative: rounded down
    samples.lower[i] = lower * step;
    samples.upper[i] = std::min(lower + 1, last) * step;
    samples.share[i] = static_cast<Real>(positions[i] - static_cast<double>(lower));
  }
}

void resample_row_avx512(const float* row, int64_t length, const Samples<float>& samples,
                         float* out);

// out[i] = row at sample i, for the samples inside the image.
template <SimdLevel level, typename Real>
FVFAST_HOST_DEVICE void resample_row(const Real* row, int64_t length, int64_t stride,
                                     const Samples<Real>& samples, Real* __restrict out) {
  if constexpr (level == SimdLevel::kAvx512 && sizeof(Real) == sizeof(float)) {
    if (stride == 1) return resample_row_avx512(row, length, samples, out);
  }
  for (int i = samples.begin; i < samples.end; ++i) {
    const Real lower = row[samples.lower[i]];
    out[i] = lower + samples.share[i] * (row[samples.upper[i]] - lower);
  }
}

// The transpose of at most kColumns samples: for each pixel that a sample reads, the samples that
// read it are `taps` at most, one after the other.
template <typename Real>
struct Readers {
  int32_t first_pixel;
  int32_t pixels;        // from the first that is read to the last
  int32_t padded;        // `pixels` rounded up to whole vectors
  int32_t taps;          // 0: no pixel is read
  const int32_t* start;  // (padded,): the first sample that reads the pixel
  const Real* weights;   // (taps, padded)
};

void gather_row_avx512(const float* samples, const Readers<float>& readers, float* pixels);

// pixels[j] += the weighted sum of the samples that read it. `samples` has 2 * kColumns elements, 0
// from the last sample on, because a pixel with fewer readers goes on reading, with weight 0.
template <SimdLevel level, typename Real>
FVFAST_HOST_DEVICE void gather_row(const Real* samples, const Readers<Real>& readers,
                                   Real* __restrict pixels) {
  if constexpr (level == SimdLevel::kAvx512 && sizeof(Real) == sizeof(float)) {
    return gather_row_avx512(samples, readers, pixels);
  }
  for (int j = 0; j < readers.padded; j += kVector) {
    Real sums[kVector] = {};
    for (int tap = 0; tap < readers.taps; ++tap) {
      const Real* weights = readers.weights + int64_t{tap} * readers.padded + j;
      for (int lane = 0; lane < kVector; ++lane) {
        sums[lane] += weights[lane] * samples[readers.start[j + lane] + tap];
      }
    }
    const int count = std::min(kVector, readers.pixels - j);
    for (int lane = 0; lane < count; ++lane) pixels[j + lane] += sums[lane];
  }
}

}  // namespace fvfast::cpu
