// Sine and cosine without branches and calls, so that a loop over them becomes vector code.
#pragma once

#include <cstdint>

#include "common/bits.h"
#include "common/macros.h"

namespace fvfast {

constexpr double kQuartersPerRadian = 0x1.45f306dc9c883p-1;  // 2 / pi

// The sine and cosine of x quarter turns, x in [-1/2, 1/2], to 1 ulp.
FVFAST_HOST_DEVICE void sincos_of_rest(float x, float* sine, float* cosine) {
  // Minimax polynomials of sin(pi x / 2) / x and cos(pi x / 2) in x^2.
  const float square = x * x;
  float s = -0x1.2d9bb8p-8f;
  s = s * square + 0x1.465ec6p-4f;
  s = s * square - 0x1.4abbbap-1f;
  s = s * square + 0x1.921fb6p+0f;
  *sine = s * x;
  float c = 0x1.d9c364p-11f;
  c = c * square - 0x1.55c57cp-6f;
  c = c * square + 0x1.03c1dcp-2f;
  c = c * square - 0x1.3bd3ccp+0f;
  *cosine = c * square + 1.0f;
}

// The sine and cosine of `quarters` / 2^30 quarter turns, a whole number of them, plus a rest of
// which `sine` and `cosine` are those. The lower 30 bits are not read.
FVFAST_HOST_DEVICE void add_quarters(uint32_t quarters, float* sine, float* cosine) {
  // Each quarter turn maps (cos, sin) to (-sin, cos): odd ones swap, the upper bit sets the signs.
  const float s = *sine, c = *cosine;
  const bool swap = (quarters & 0x40000000u) != 0;
  const int32_t sine_sign = static_cast<int32_t>(quarters & 0x80000000u);
  const int32_t cosine_sign = static_cast<int32_t>((quarters + 0x40000000u) & 0x80000000u);
  *sine = float_of(bits_of(swap ? c : s) ^ sine_sign);
  *cosine = float_of(bits_of(swap ? s : c) ^ cosine_sign);
}

// The sine and cosine of `quarter` + x quarter turns, x in [-1/2, 1/2], to 1 ulp.
FVFAST_HOST_DEVICE void sincos_of_quarters(int32_t quarter, float x, float* sine, float* cosine) {
  sincos_of_rest(x, sine, cosine);
  add_quarters(static_cast<uint32_t>(quarter) << 30, sine, cosine);
}

// Splits an angle in quarter turns into the nearest whole number of them, of which the lowest 32
// bits are returned, and the rest in [-1/2, 1/2].
//
// In double: the rest of an angle of a million quarter turns is then still good to 1e-10.
FVFAST_HOST_DEVICE int32_t split_quarters(double angle, float* rest) {
  // Adding 1.5 * 2^52 leaves no bits for a fraction: the sum is rounded to a whole number, which is
  // then found in its lowest bits. (A conversion to an integer would be undefined for NaN.)
  constexpr double kShift = 0x1.8p52;
  const double shifted = angle + kShift;
  *rest = static_cast<float>(angle - (shifted - kShift));
  return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(bits_of(shifted))));
}

}  // namespace fvfast
