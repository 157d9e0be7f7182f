// The logistic function 1 / (1 + exp(-x)).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bits.h"
#include "common/macros.h"

namespace fvfast {

// Without branches and calls, so that a loop over it becomes vector code; NaN stays NaN. Source of
// the polynomial: S. Moshier, Cephes, expf.
FVFAST_HOST_DEVICE float sigmoid_of(float value) {
  // Beyond these bounds the result is 1, or so small that no image shows it, but exp would leave
  // the range of a float. A comparison with NaN is false: it passes.
  float x = -value;
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;

  // exp(x) = 2^n exp(r), |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to a whole number n; ln 2 has
  // two parts, so that the product with the first has no rounding error.
  const float shifted = x * 0x1.715476p+0f + 0x1.8p23f;
  const float n = shifted - 0x1.8p23f;
  float r = x - n * 0x1.63p-1f;
  r = r + n * 0x1.bd0106p-13f;

  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;

  // The lowest bits of the shifted sum are n, which belongs into the exponent.
  const uint32_t exponent = (static_cast<uint32_t>(bits_of(shifted)) + 127u) << 23;
  const float power = p * float_of(static_cast<int32_t>(exponent));
  return 1.0f / (1.0f + power);
}

// In double, for checking gradients: accuracy matters, speed does not.
FVFAST_HOST_DEVICE double sigmoid_of(double value) { return 1.0 / (1.0 + std::exp(-value)); }

}  // namespace fvfast
