// Handlers of floating point arithmetic.
#pragma once

#include <cfenv>
#include <cmath>

#include "machine.h"
#include "number_formats.h"

namespace ptx {

// min and max: a NaN loses against a number, unless it must `propagate`; -0 < +0.
template <class T>
T min_or_max(T a, T b, bool max, bool propagate) {
  const bool a_is_nan = a != a, b_is_nan = b != b;
  if (a_is_nan || b_is_nan) {
    if (propagate || (a_is_nan && b_is_nan)) return static_cast<T>(NAN);
    return a_is_nan ? b : a;
  }
  if (a == b) return std::signbit(a) != max ? a : b;
  return (a < b) != max ? a : b;
}

// An operation on its operands a, b, c: `full` for float32 and float64, `half` for the 16-bit
// formats, computed in float64 such that one more rounding gives the correctly rounded result.
#define PTX_FLOAT(name, full_expression, half_expression)                             \
  struct name {                                                                       \
    template <class T>                                                                \
    static T full([[maybe_unused]] T a, [[maybe_unused]] T b, [[maybe_unused]] T c) { \
      return full_expression;                                                         \
    }                                                                                 \
    static double half([[maybe_unused]] double a, [[maybe_unused]] double b,          \
                       [[maybe_unused]] double c) {                                   \
      return half_expression;                                                         \
    }                                                                                 \
  };
PTX_FLOAT(FloatAdd, a + b, add_to_odd(a, b))
PTX_FLOAT(FloatSubtract, a - b, add_to_odd(a, -b))
PTX_FLOAT(FloatMultiply, (a * b), (a * b))
PTX_FLOAT(FloatFma, std::fma(a, b, c), add_to_odd((a * b), c))
PTX_FLOAT(FloatDivide, a / b, a / b)
PTX_FLOAT(FloatReciprocal, 1 / a, 1 / a)
PTX_FLOAT(FloatSqrt, std::sqrt(a), std::sqrt(a))
PTX_FLOAT(FloatAbsolute, std::fabs(a), std::fabs(a))
PTX_FLOAT(FloatNegate, -a, -a)
PTX_FLOAT(FloatTanh, std::tanh(a), std::tanh(a))
PTX_FLOAT(FloatExp2, std::exp2(a), std::exp2(a))
PTX_FLOAT(FloatMin, min_or_max(a, b, false, false), full(a, b, c))
PTX_FLOAT(FloatMax, min_or_max(a, b, true, false), full(a, b, c))
PTX_FLOAT(FloatMinNan, min_or_max(a, b, false, true), full(a, b, c))
PTX_FLOAT(FloatMaxNan, min_or_max(a, b, true, true), full(a, b, c))
#undef PTX_FLOAT

// div.approx.f32: for a huge divisor the GPU's quotient is 0, or NaN for what is not finite.
struct FloatDivideApproximately {
  template <class T>
  static T full(T a, T b, T) {
    if (!(std::fabs(b) > 0x1p126f)) return a / b;
    return std::isinf(a) || std::isnan(a) || b != b ? static_cast<T>(NAN) : a * 0;
  }
};

// Rounding to nearest, without modifiers.
template <class T, class Operation>
void float_plain(Thread& t, const Instruction& i) {
  put<T>(t, i.slot[0],
         Operation::full(get<T>(t, i.slot[1]), get<T>(t, i.slot[2]), get<T>(t, i.slot[3])));
}

// Any rounding mode, with .ftz and .sat.
template <class T, class Operation>
void float_modified(Thread& t, const Instruction& i) {
  static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  // Volatile: the operation must stay between the two changes of the rounding mode.
  volatile T a = get<T>(t, i.slot[1]), b = get<T>(t, i.slot[2]), c = get<T>(t, i.slot[3]);
  if (i.flags & kFlush) {
    a = flush(static_cast<T>(a));
    b = flush(static_cast<T>(b));
    c = flush(static_cast<T>(c));
  }
  const bool directed = i.rounding != Rounding::Nearest;
  if (directed) std::fesetround(modes[static_cast<int>(i.rounding)]);
  volatile T rounded = Operation::full(static_cast<T>(a), static_cast<T>(b), static_cast<T>(c));
  if (directed) std::fesetround(FE_TONEAREST);
  T result = rounded;
  if (i.flags & kFlush) result = flush(result);
  if (i.flags & kSaturate) result = saturate(result);
  put<T>(t, i.slot[0], result);
}

// .approx.f32: the exact function, rounded once. README.md says how far a GPU may be from it.
template <double (*Function)(double)>
void float_approximate(Thread& t, const Instruction& i) {
  float x = get<float>(t, i.slot[1]);
  if (i.flags & kFlush) x = flush(x);
  const float y = static_cast<float>(Function(x));
  put<float>(t, i.slot[0], i.flags & kFlush ? flush(y) : y);
}

inline double reciprocal(double x) { return 1 / x; }
inline double reciprocal_sqrt(double x) {
  return static_cast<double>(1 / std::sqrt(static_cast<long double>(x)));
}

// .approx.ftz.f64 reads and gives high words only; rsqrt.approx.f64 whole numbers.
template <double (*Function)(double)>
void double_approximate(Thread& t, const Instruction& i) {
  const bool high_only = i.flags & kFlush;
  const u64 mask = high_only ? ~u64{0} << 32 : ~u64{0};
  const auto flush_double = [&](double x) {
    return high_only && std::fabs(x) < kSmallestDouble ? std::copysign(0., x) : x;
  };
  u64 bits = t.slots[i.slot[1]] & mask;
  double x;
  std::memcpy(&x, &bits, sizeof x);
  const double y = flush_double(Function(flush_double(x)));
  std::memcpy(&bits, &y, sizeof bits);
  t.slots[i.slot[0]] = y != y ? u64{0x7fffffff} << 32 : bits & mask;
}

template <class T>
void copy_sign(Thread& t, const Instruction& i) {
  put<T>(t, i.slot[0], std::copysign(get<T>(t, i.slot[2]), get<T>(t, i.slot[1])));
}

// testp. op: finite, infinite, number, notanumber, normal, subnormal.
template <class T>
void test_property(Thread& t, const Instruction& i) {
  const int kind = std::fpclassify(get<T>(t, i.slot[1]));
  const bool answers[] = {kind != FP_NAN && kind != FP_INFINITE,
                          kind == FP_INFINITE,
                          kind != FP_NAN,
                          kind == FP_NAN,
                          kind == FP_NORMAL,
                          kind == FP_SUBNORMAL};
  t.slots[i.slot[0]] = answers[i.op];
}

// The 16-bit formats, with all modifiers.
template <class Operation>
void half_operation(Thread& t, const Instruction& i) {
  const bool bfloat = is_bfloat(i.type);
  u32 result = 0;
  for (int k = 0; k < halves_in(i.type); ++k) {
    double operand[3];
    for (int j = 0; j < 3; ++j) {
      operand[j] = decode_half(static_cast<u16>(t.slots[i.slot[j + 1]] >> 16 * k), bfloat);
      if (i.flags & kFlush) operand[j] = flush_half(operand[j]);
    }
    double x = Operation::half(operand[0], operand[1], operand[2]);
    if (i.flags & kSaturate) x = saturate(x);
    if ((i.flags & kRelu) && x <= 0) x = 0;
    u16 bits = encode_half(x, bfloat);
    if ((i.flags & kFlush) && !(bits & 0x7c00)) bits &= 0x8000;
    result |= u32{bits} << 16 * k;
  }
  put<u32>(t, i.slot[0], result);
}

template <bool kAbsolute>
void half_sign(Thread& t, const Instruction& i) {
  const u32 signs = halves_in(i.type) == 2 ? 0x80008000 : 0x8000, a = get<u32>(t, i.slot[1]);
  put<u32>(t, i.slot[0], kAbsolute ? a & ~signs : a ^ signs);
}

}  // namespace ptx
