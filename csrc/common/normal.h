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
  sincos_of_quarters(quarter, x, sine, cosine);
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
#if defined(__CUDA_ARCH__)
  // Where the angle may be anything, its reduction takes local memory.
  double sine, cosine;
  sincospi(2 * to_uniform<double>(word1), &sine, &cosine);
  *first = radius * cosine;
  *second = radius * sine;
#else
  const double angle = 2 * 3.14159265358979323846 * to_uniform<double>(word1);
  *first = radius * std::cos(angle);
  *second = radius * std::sin(angle);
#endif
}

}  // namespace fvfast
