// Mathematical functions of the device that the C library does not have.
//
// They are macros, because newer C libraries have some of them, and declare others internally.
// Those that a GPU approximates (__sinf, __expf) are as exact here as their full counterparts.
#pragma once

namespace cuda_emulator {

// sin(pi x) and cos(pi x), exact where they are 0 or 1.
inline void sincos_pi(double x, double* sine, double* cosine) {
  const double pi = 3.14159265358979323846;
  const double turn = std::remainder(x, 2.0);  // exact, in [-1, 1]
  const double quarter = std::nearbyint(2 * turn);
  const double angle = pi * (turn - quarter / 2);  // the difference is exact
  const double s = std::sin(angle), c = std::cos(angle);
  switch (static_cast<int>(quarter) & 3) {
    case 0:
      *sine = s, *cosine = c;
      break;
    case 1:
      *sine = c, *cosine = -s;
      break;
    case 2:
      *sine = -s, *cosine = -c;
      break;
    default:
      *sine = -c, *cosine = s;
  }
}

inline void sincos_pi(float x, float* sine, float* cosine) {
  double s, c;
  sincos_pi(static_cast<double>(x), &s, &c);
  *sine = static_cast<float>(s);
  *cosine = static_cast<float>(c);
}

template <typename T>
T sine_pi(T x) {
  T sine, cosine;
  sincos_pi(x, &sine, &cosine);
  return sine;
}

template <typename T>
T cosine_pi(T x) {
  T sine, cosine;
  sincos_pi(x, &sine, &cosine);
  return cosine;
}

inline float saturate(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }  // NaN becomes 0

// Conversions to integers: out of range becomes the nearest integer, NaN becomes 0.
template <typename Integer, typename Real>
Integer to_integer(Real rounded) {
  using Limits = std::numeric_limits<Integer>;
  if (std::isnan(rounded)) return 0;
  // The largest integer itself may not be a floating-point number; the power of two after it is.
  if (rounded >= std::ldexp(Real(1), Limits::digits)) return Limits::max();
  if (rounded <= static_cast<Real>(Limits::min())) return Limits::min();
  return static_cast<Integer>(rounded);
}

template <typename A, typename B>
using EnableArithmetic =
    std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>>;

}  // namespace cuda_emulator

// For floating-point numbers as fmin and fmax: if one is NaN, the other is returned.
template <typename A, typename B>
::cuda_emulator::EnableArithmetic<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmin(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
  }
}

template <typename A, typename B>
::cuda_emulator::EnableArithmetic<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmax(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
  }
}

#define sincospi(x, sine, cosine) ::cuda_emulator::sincos_pi(static_cast<double>(x), sine, cosine)
#define sincospif(x, sine, cosine) ::cuda_emulator::sincos_pi(static_cast<float>(x), sine, cosine)
#define sinpi(x) ::cuda_emulator::sine_pi(static_cast<double>(x))
#define sinpif(x) ::cuda_emulator::sine_pi(static_cast<float>(x))
#define cospi(x) ::cuda_emulator::cosine_pi(static_cast<double>(x))
#define cospif(x) ::cuda_emulator::cosine_pi(static_cast<float>(x))
#define rsqrt(x) (1.0 / ::sqrt(static_cast<double>(x)))
#define rsqrtf(x) static_cast<float>(1.0 / ::sqrt(static_cast<double>(x)))

// One rounding each: the build forbids the compiler to contract them into fused multiply-adds.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __sincosf(x, sine, cosine) sincosf(x, sine, cosine)
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __fdividef(x, y) (static_cast<float>(x) / static_cast<float>(y))
#define __saturatef(x) ::cuda_emulator::saturate(x)

inline int __float2int_rn(float x) { return ::cuda_emulator::to_integer<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return ::cuda_emulator::to_integer<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return ::cuda_emulator::to_integer<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return ::cuda_emulator::to_integer<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) {
  return ::cuda_emulator::to_integer<unsigned>(std::nearbyint(x));
}
inline unsigned __float2uint_rz(float x) {
  return ::cuda_emulator::to_integer<unsigned>(std::trunc(x));
}
inline long long __float2ll_rn(float x) {
  return ::cuda_emulator::to_integer<long long>(std::nearbyint(x));
}
inline int __double2int_rn(double x) { return ::cuda_emulator::to_integer<int>(std::nearbyint(x)); }
inline int __double2int_rz(double x) { return ::cuda_emulator::to_integer<int>(std::trunc(x)); }
inline long long __double2ll_rn(double x) {
  return ::cuda_emulator::to_integer<long long>(std::nearbyint(x));
}
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return static_cast<double>(x); }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }
