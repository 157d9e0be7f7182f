// Standard normal numbers from random words (Box-Muller).
//
// The float version has no branches and no calls, so that a loop over it becomes vector code. Its
// inputs are 24-bit integers, which keeps every range reduction below exact.
// Source: G. Box, M. Muller, "A note on the generation of random normal deviates" (1958).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/macros.h"
#include "common/philox.h"

namespace fvfast {

FVFAST_HOST_DEVICE int32_t bits_of(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

FVFAST_HOST_DEVICE float float_of(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// log(n * 2^-24) for an integer 1 <= n <= 2^24, to 1 ulp.
FVFAST_HOST_DEVICE float log_of_24_bits(int32_t n) {
  // n * 2^-24 = 2^exponent * m with m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2)
  // makes the exponent field step where m does.
  const int32_t bits = bits_of(static_cast<float>(n));
  const int32_t biased = (bits - 0x3f3504f3) >> 23;
  const float exponent = static_cast<float>(biased - 24);
  const float f = float_of(bits - (biased << 23)) - 1.0f;

  // log(1 + f) = f - f^2 / 2 + f^3 p(f), p minimax on [sqrt(1/2) - 1, sqrt(2) - 1].
  float p = -0x1.41eep-4f;
  p = p * f + 0x1.07d0eep-3f;
  p = p * f - 0x1.0ce07cp-3f;
  p = p * f + 0x1.226e4ap-3f;
  p = p * f - 0x1.54788ap-3f;
  p = p * f + 0x1.99a596p-3f;
  p = p * f - 0x1.00022p-2f;
  p = p * f + 0x1.55554ap-2f;
  const float square = f * f;

  // ln 2 in two parts: the product with the first has no rounding error. Small terms come first.
  float result = square * f * p + exponent * 0x1.7f7d1cp-20f;
  result = result - 0.5f * square;
  return (result + f) + exponent * 0x1.62e4p-1f;
}

// The sine and cosine of 2 pi n 2^-24 for an integer 0 <= n < 2^24, to 1 ulp.
FVFAST_HOST_DEVICE void sincos_of_24_bits(int32_t n, float* sine, float* cosine) {
  // The nearest quarter turn, and the rest x in [-1/2, 1/2] quarter turns, exactly.
  const int32_t quarter = (n + (1 << 21)) >> 22;
  const float x = static_cast<float>(n - (quarter << 22)) * 0x1p-22f;
  const float square = x * x;

  // Minimax polynomials of sin(pi x / 2) / x and cos(pi x / 2) in x^2.
  float s = -0x1.2d9bb8p-8f;
  s = s * square + 0x1.465ec6p-4f;
  s = s * square - 0x1.4abbbap-1f;
  s = s * square + 0x1.921fb6p+0f;
  s = s * x;
  float c = 0x1.d9c364p-11f;
  c = c * square - 0x1.55c57cp-6f;
  c = c * square + 0x1.03c1dcp-2f;
  c = c * square - 0x1.3bd3ccp+0f;
  c = c * square + 1.0f;

  // Each quarter turn maps (cos, sin) to (-sin, cos): odd ones swap, bit 1 sets the signs.
  const bool swap = (quarter & 1) != 0;
  const int32_t sine_sign = (quarter & 2) << 30;
  const int32_t cosine_sign = ((quarter + 1) & 2) << 30;
  *sine = float_of(bits_of(swap ? c : s) ^ sine_sign);
  *cosine = float_of(bits_of(swap ? s : c) ^ cosine_sign);
}

// Two normal numbers from two words. The radius uses (0, 1], so its logarithm is finite.
FVFAST_HOST_DEVICE void normal_pair(uint32_t word0, uint32_t word1, float* first, float* second) {
  const float radius = std::sqrt(-2.0f * log_of_24_bits(static_cast<int32_t>(word0 >> 8) + 1));
  float sine, cosine;
  sincos_of_24_bits(static_cast<int32_t>(word1 >> 8), &sine, &cosine);
  *first = radius * cosine;
  *second = radius * sine;
}

// In double, for checking gradients: accuracy matters, speed does not.
FVFAST_HOST_DEVICE void normal_pair(uint32_t word0, uint32_t word1, double* first, double* second) {
  const double uniform = static_cast<double>((word0 >> 8) + 1) * 0x1p-24;
  const double radius = std::sqrt(-2.0 * std::log(uniform));
  const double angle = 2 * 3.14159265358979323846 * to_uniform<double>(word1);
  *first = radius * std::cos(angle);
  *second = radius * std::sin(angle);
}

}  // namespace fvfast
