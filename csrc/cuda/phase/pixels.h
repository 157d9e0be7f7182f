// One pixel of an image: from its planes to its colors, and back.
#pragma once

#include "common/sigmoid.h"

namespace fvfast::cuda {

// From standardized planes to the colors of a pixel, as in csrc/cpu/phase/spectrum_image.cpp.
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

  // Planes that are not standardized but multiplied by a gain.
  template <typename Params>
  __device__ PixelForward(const Params& params, double gain)
      : mean(0),
        low(static_cast<Real>(params.low)),
        width(static_cast<Real>(params.high - params.low)) {
#pragma unroll
    for (int i = 0; i < planes; ++i) {
#pragma unroll
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? gain * params.colors[i][j] : gain);
      }
    }
  }

  __device__ __forceinline__ void make_pixel(const Real (&values)[planes],
                                             Real (&pixel)[planes]) const {
#pragma unroll
    for (int j = 0; j < planes; ++j) {
      Real sum = 0;
#pragma unroll
      for (int i = 0; i < planes; ++i) sum += (values[i] - mean) * mix[i][j];
      pixel[j] = color(sum);
    }
  }

  // The two steps of that, of which the first may also be taken before a transform.
  __device__ __forceinline__ Real mixed(const Real (&values)[planes], int j) const {
    Real sum = 0;
#pragma unroll
    for (int i = 0; i < planes; ++i) sum += values[i] * mix[i][j];
    return sum;
  }

  __device__ __forceinline__ Real color(Real sum) const { return sigmoid_of(sum) * width + low; }
};

// The gradient before the sigmoid and the colors, from that after them.
template <typename Real, int planes>
struct PixelBackward {
  Real low, high;
  Real mix[planes][planes];  // colors, divided by the width of the range

  template <typename Params>
  __device__ explicit PixelBackward(const Params& params, double gain = 1)
      : low(static_cast<Real>(params.low)), high(static_cast<Real>(params.high)) {
    const double scale = gain / (params.high - params.low);
#pragma unroll
    for (int i = 0; i < planes; ++i) {
#pragma unroll
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? scale * params.colors[i][j] : scale);
      }
    }
  }

  __device__ __forceinline__ void make_gradient(const Real (&gradient)[planes],
                                                const Real (&pixel)[planes],
                                                Real (&out)[planes]) const {
    Real slopes[planes];
#pragma unroll
    for (int j = 0; j < planes; ++j) slopes[j] = slope(gradient[j], pixel[j]);
#pragma unroll
    for (int i = 0; i < planes; ++i) out[i] = unmixed(slopes, i);
  }

  // The two steps of that, of which the second may also be taken after a transform.
  __device__ __forceinline__ Real slope(Real gradient, Real pixel) const {
    return gradient * ((pixel - low) * (high - pixel));
  }

  __device__ __forceinline__ Real unmixed(const Real (&slopes)[planes], int i) const {
    Real sum = 0;
#pragma unroll
    for (int j = 0; j < planes; ++j) sum += slopes[j] * mix[i][j];
    return sum;
  }
};

}  // namespace fvfast::cuda
