#include "conversions.h"

#include <algorithm>

namespace ptx {
namespace {

struct Range {
  s128 lowest, highest;
};
Range range_of(Type type) {
  const u32 bits = 8 * size_of(type);
  if (is_signed(type)) return {-(s128{1} << (bits - 1)), (s128{1} << (bits - 1)) - 1};
  return {0, (s128{1} << bits) - 1};
}

long double get_float(const Thread& t, int slot, Type type, bool flushed) {
  if (is_half(type)) return decode_half(static_cast<u16>(t.slots[slot]), is_bfloat(type));
  if (type == Type::F64) return get<double>(t, slot);
  const float x = get<float>(t, slot);
  return flushed ? flush(x) : x;
}

// Out of range: the nearest that there is. NaN: 0, or the sign bit alone where either is of 64
// bits.
u64 float_to_integer(long double x, const Instruction& i) {
  const Range range = range_of(i.type);
  const u32 bits = 8 * size_of(i.type);
  if (x != x) {
    return i.type2 == Type::F64 || bits == 64 ? static_cast<u64>(s128{1} << (bits - 1)) : 0;
  }
  x = to_integral(x, i.rounding);
  if (x <= static_cast<long double>(range.lowest)) return static_cast<u64>(range.lowest);
  if (x >= static_cast<long double>(range.highest)) return static_cast<u64>(range.highest);
  return static_cast<u64>(static_cast<s128>(x));
}

}  // namespace

void convert(Thread& t, const Instruction& i) {
  u64 halves = 0;
  // Of two sources, as in cvt.f16x2.f32 d, a, b, the last is the low half.
  for (int k = 0; k < i.elements; ++k) {
    const int source = i.slot[i.elements - k];
    long double x;
    if (is_integer(i.type2)) {
      s128 value = get_integer(t, source, i.type2);
      if (is_integer(i.type)) {
        const Range range = range_of(i.type);
        if (i.flags & kSaturate) value = std::clamp(value, range.lowest, range.highest);
        return put_integer(t, i.slot[0], i.type, static_cast<u64>(value));
      }
      x = static_cast<long double>(value);
    } else {
      x = get_float(t, source, i.type2, i.flags & kFlush);
    }
    if (is_integer(i.type)) {
      return put_integer(t, i.slot[0], i.type, float_to_integer(x, i));
    }
    if (i.flags & kToIntegral) {
      const long double integral = to_integral(x, i.rounding);
      x = integral == 0 ? copysignl(0, x) : integral;
    }
    if (i.flags & kSaturate) x = saturate(x);
    if ((i.flags & kRelu) && x <= 0) x = 0;
    const Rounding rounding = i.flags & kToIntegral ? Rounding::Nearest : i.rounding;
    if (is_half(i.type)) {
      halves |= u64{encode_half(x, is_bfloat(i.type), rounding)} << 16 * k;
    } else if (i.type == Type::F64) {
      return put<double>(t, i.slot[0], static_cast<double>(round_to(x, Type::F64, rounding)));
    } else {
      const float value = static_cast<float>(round_to(x, i.type, rounding));
      return put<float>(t, i.slot[0], i.flags & kFlush ? flush(value) : value);
    }
  }
  t.slots[i.slot[0]] = halves;
}

}  // namespace ptx
