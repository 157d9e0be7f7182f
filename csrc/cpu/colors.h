// The last step to an image, and the first one back: planes are mixed to colors, and a sigmoid
// takes them into the range. `planes` is 3, or 1 where nothing is mixed.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "common/sigmoid.h"

namespace fvfast::cpu {

// image = low + width sigmoid(mixed values); row i of `mix` is what plane i adds.
template <typename Real, int planes, int capacity>
FVFAST_HOST_DEVICE void mix_into_range(const Real (&values)[planes][capacity],
                                       const Real (&mix)[planes][planes], Real low, Real width,
                                       Real* image, int64_t plane_stride, int count) {
  for (int j = 0; j < planes; ++j) {
    Real* out = image + j * plane_stride;
    for (int p = 0; p < count; ++p) {
      Real sum = values[0][p] * mix[0][j];
      for (int i = 1; i < planes; ++i) sum += values[i][p] * mix[i][j];
      out[p] = sigmoid_of(sum) * width + low;
    }
  }
}

// The gradient in front of the sigmoid, times the width of the range: the slope of
// image = low + (high - low) sigmoid(x) is (image - low) (high - image) / (high - low).
template <typename Real, int planes, int capacity>
FVFAST_HOST_DEVICE void before_range(const Real* gradient, const Real* image, Real low, Real high,
                                     int64_t plane_stride, Real (&values)[planes][capacity],
                                     int count) {
  for (int j = 0; j < planes; ++j) {
    for (int p = 0; p < count; ++p) {
      const Real value = image[j * plane_stride + p];
      values[j][p] = gradient[j * plane_stride + p] * ((value - low) * (high - value));
    }
  }
}

// The gradient of one plane from that of the colors.
template <typename Real, int planes, int capacity>
FVFAST_HOST_DEVICE void unmix(const Real (&values)[planes][capacity], const Real (&mix)[planes],
                              Real* out, int count) {
  for (int p = 0; p < count; ++p) {
    Real sum = values[0][p] * mix[0];
    for (int j = 1; j < planes; ++j) sum += values[j][p] * mix[j];
    out[p] = sum;
  }
}

}  // namespace fvfast::cpu
