// Standard normal numbers from random words (Box-Muller).
//
// The float version has no branches and no calls, so that a loop over it becomes vector code. Its
// inputs are 24-bit integers, which keeps every range reduction below exact.
// Source: G. Box, M. Muller, "A note on the generation of random normal deviates" (1958).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bits.h"
#include "common/macros.h"
#include "common/philox.h"
#include "common/sincos.h"

namespace fvfast {

// -2 log(n * 2^-24) for an integer 1 <= n <= 2^24, to 1 ulp.
FVFAST_HOST_DEVICE float minus_two_log_of_24_bits(int32_t n) {
  // n * 2^-24 = 2^exponent * m with m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2)
  // makes the exponent field step where m does.
  constexpr int32_t kSqrtHalf = 0x3f3504f3, kExponent = 23;
  const int32_t steps = bits_of(static_cast<float>(n)) - (kSqrtHalf + (24 << kExponent));
  const float exponent = static_cast<float>(steps >> kExponent);
  const float f = float_of((steps & ((1 << kExponent) - 1)) + kSqrtHalf) - 1.0f;

  // log(1 + f) = f - f^2 / 2 + f^3 p(f), p minimax on [sqrt(1/2) - 1, sqrt(2) - 1]. Here is -2 p.
  float p = 0x1.41eep-3f;
  p = p * f - 0x1.07d0eep-2f;
  p = p * f + 0x1.0ce07cp-2f;
  p = p * f - 0x1.226e4ap-2f;
  p = p * f + 0x1.54788ap-2f;
  p = p * f - 0x1.99a596p-2f;
  p = p * f + 0x1.00022p-1f;
  p = p * f - 0x1.55554ap-1f;
  const float square = f * f;

  // ln 2 in two parts: the product with the first has no rounding error. Small terms come first.
  float result = square * f * p + exponent * -0x1.7f7d1cp-19f;
  result = result + square;
  return (result - 2.0f * f) + exponent * -0x1.62e4p+0f;
}

// A pair of normal numbers is a radius, from the upper 24 bits of one word, times a direction, from
// those of another. The lower 8 bits of both serve no normal number: see uniform_of_low_bits().

// The square of the radius uses (0, 1], so its logarithm is finite.
FVFAST_HOST_DEVICE void squared_radius(uint32_t word, float* square) {
  *square = minus_two_log_of_24_bits(static_cast<int32_t>(word >> 8) + 1);
}

FVFAST_HOST_DEVICE void normal_direction(uint32_t word, float* cosine, float* sine) {
  // The nearest quarter turn is in the upper two bits of word + 2^29. The rest is in those below
  // the upper two bits of the word itself: as a signed number it is in [-1/2, 1/2) quarter turns.
  const float rest = static_cast<float>(static_cast<int32_t>(word << 2) >> 10) * 0x1p-22f;
  sincos_of_rest(rest, sine, cosine);
  add_quarters(word + (1u << 29), sine, cosine);
}

// In double, for checking gradients: accuracy matters, speed does not.
FVFAST_HOST_DEVICE void squared_radius(uint32_t word, double* square) {
  *square = -2.0 * std::log(static_cast<double>((word >> 8) + 1) * 0x1p-24);
}

FVFAST_HOST_DEVICE void normal_direction(uint32_t word, double* cosine, double* sine) {
#if defined(__CUDA_ARCH__)
  // Where the angle may be anything, its reduction takes local memory.
  sincospi(2 * to_uniform<double>(word), sine, cosine);
#else
  const double angle = 2 * 3.14159265358979323846 * to_uniform<double>(word);
  *cosine = std::cos(angle);
  *sine = std::sin(angle);
#endif
}

// Two normal numbers from two words.
template <typename Real>
FVFAST_HOST_DEVICE void normal_pair(uint32_t word0, uint32_t word1, Real* first, Real* second) {
  Real square, cosine, sine;
  squared_radius(word0, &square);
  normal_direction(word1, &cosine, &sine);
  const Real radius = std::sqrt(square);
  *first = radius * cosine;
  *second = radius * sine;
}

}  // namespace fvfast
