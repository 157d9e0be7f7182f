// Rounding to the floating point formats of PTX, and the bits of the 16-bit ones.
//
// long double holds every value of every format here, with bits to spare: what it computes is
// rounded once, to the format.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "types.h"

namespace ptx {

// The smallest normal numbers.
constexpr float kSmallestFloat = 0x1p-126f;
constexpr double kSmallestDouble = 0x1p-1022;
constexpr double kSmallestHalf = 0x1p-14;

inline float flush(float x) { return std::fabs(x) < kSmallestFloat ? std::copysign(0.f, x) : x; }
inline double flush(double x) { return x; }  // .ftz does not concern float64
inline double flush_half(double x) {
  return std::fabs(x) < kSmallestHalf ? std::copysign(0., x) : x;
}
// .sat: to [0, 1]; NaN becomes 0.
template <class T>
T saturate(T x) {
  return x > 0 ? std::min(x, T(1)) : T(0);
}

inline long double to_integral(long double x, Rounding rounding) {
  switch (rounding) {
    case Rounding::Zero:
      return truncl(x);
    case Rounding::Down:
      return floorl(x);
    case Rounding::Up:
      return ceill(x);
    case Rounding::NearestAway:
      return roundl(x);
    default:
      return nearbyintl(x);
  }
}

// float64 is enough where the value is one of float64.
inline double to_integral(double x, Rounding rounding) {
  switch (rounding) {
    case Rounding::Zero:
      return std::trunc(x);
    case Rounding::Down:
      return std::floor(x);
    case Rounding::Up:
      return std::ceil(x);
    case Rounding::NearestAway:
      return std::round(x);
    default:
      return std::nearbyint(x);
  }
}

struct Format {
  int digits;    // significant bits
  int smallest;  // exponent of the smallest normal number
  int largest;   // exponent of the largest number
};
inline Format format_of(Type type) {
  switch (type) {
    case Type::F16:
    case Type::F16x2:
      return {11, -14, 15};
    case Type::BF16:
    case Type::BF16x2:
      return {8, -126, 127};
    case Type::TF32:
      return {11, -126, 127};
    case Type::F32:
      return {24, -126, 127};
    default:
      return {53, -1022, 1023};
  }
}

inline long double round_to(long double x, Type type, Rounding rounding) {
  if (!std::isfinite(x) || x == 0) return x;
  const Format format = format_of(type);
  int exponent;
  frexpl(x, &exponent);
  // The weight of the last place is 2 to this.
  const int last = std::max(exponent - format.digits, format.smallest - format.digits + 1);
  long double y = ldexpl(to_integral(ldexpl(x, -last), rounding), last);
  if (fabsl(y) >= ldexpl(1, format.largest + 1)) {
    const bool away = rounding == Rounding::Nearest || rounding == Rounding::NearestAway ||
                      (rounding == Rounding::Up && x > 0) || (rounding == Rounding::Down && x < 0);
    const long double largest = ldexpl(2 - ldexpl(1, 1 - format.digits), format.largest);
    y = copysignl(away ? INFINITY : largest, x);
  }
  return y == 0 ? copysignl(0, x) : y;
}

inline double decode_half(u16 bits, bool bfloat) {
  if (bfloat) {
    const u32 wide = u32{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value;
  if (exponent == 31) {
    value = mantissa ? NAN : INFINITY;
  } else {
    value = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  }
  return bits & 0x8000 ? -value : value;
}

inline u16 encode_half(long double x, bool bfloat, Rounding rounding = Rounding::Nearest) {
  x = round_to(x, bfloat ? Type::BF16 : Type::F16, rounding);
  if (x != x) return 0x7fff;
  if (bfloat) {
    const float value = static_cast<float>(x);
    u32 bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<u16>(bits >> 16);
  }
  const u16 sign = std::signbit(x) ? 0x8000 : 0;
  x = fabsl(x);
  if (x == 0) return sign;
  if (std::isinf(x)) return sign | 0x7c00;
  int exponent;
  frexpl(x, &exponent);                                               // x = 0.1... * 2^exponent
  if (exponent < -13) return sign | static_cast<u16>(ldexpl(x, 24));  // subnormal
  const u16 mantissa = static_cast<u16>(ldexpl(x, 11 - exponent)) & 1023;
  return sign | static_cast<u16>((exponent + 14) << 10 | mantissa);
}

// p + c rounded to odd: a second rounding to a much shorter format then gives the sum correctly
// rounded.
inline double add_to_odd(double p, double c) {
  const double sum = p + c, part = sum - p;
  const double error = (p - (sum - part)) + (c - part);
  u64 bits;
  std::memcpy(&bits, &sum, sizeof bits);
  if (!std::isfinite(sum) || error == 0 || (bits & 1)) return sum;
  return std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
}

}  // namespace ptx
