// Handlers of cvt.
#pragma once

#include <cmath>
#include <limits>

#include "machine.h"
#include "number_formats.h"

namespace ptx {

// Integers of any width, where a template over their types would be too much.
inline s128 get_integer(const Thread& t, int slot, Type type) {
  const unsigned shift = 64 - 8 * size_of(type);
  const u64 bits = t.slots[slot] << shift;
  return is_signed(type) ? s128{static_cast<s64>(bits) >> shift} : static_cast<s128>(bits >> shift);
}
inline void put_integer(Thread& t, int slot, Type type, u64 value) {
  const unsigned shift = 64 - 8 * size_of(type);
  const u64 bits = value << shift;
  t.slots[slot] =
      is_signed(type) ? static_cast<u64>(static_cast<s64>(bits) >> shift) : bits >> shift;
}

// What C++ converts in the same way.
template <class To, class From>
void convert_plain(Thread& t, const Instruction& i) {
  put<To>(t, i.slot[0], static_cast<To>(get<From>(t, i.slot[1])));
}

// cvt.rmi.f32.f32 and its like, without .sat: floor() in a kernel.
template <class T>
void convert_to_integral(Thread& t, const Instruction& i) {
  const bool flushed = i.flags & kFlush;
  const T given = get<T>(t, i.slot[1]);
  const T x = flushed ? flush(given) : given;
  // The zero that -0.3 becomes has its sign.
  put<T>(t, i.slot[0], std::copysign(static_cast<T>(to_integral(double{x}, i.rounding)), x));
}

// A floating point number to an integer of 32 or 64 bits. Out of range: the nearest that there is.
// NaN: 0, or the sign bit alone where either is of 64 bits.
template <class To, class From>
void convert_to_integer(Thread& t, const Instruction& i) {
  constexpr To lowest = std::numeric_limits<To>::min(), highest = std::numeric_limits<To>::max();
  constexpr int bits = 8 * sizeof(To);
  From x = get<From>(t, i.slot[1]);
  if (i.flags & kFlush) x = flush(x);
  if (x != x) {
    const bool wide = sizeof(From) == 8 || sizeof(To) == 8;
    return put<To>(t, i.slot[0], wide ? static_cast<To>(u64{1} << (bits - 1)) : To{0});
  }
  const double y = to_integral(double{x}, i.rounding);
  // One more than the largest, which float64 may not hold.
  constexpr double end = 2. * static_cast<double>(highest / 2 + 1);
  const To result = y <= static_cast<double>(lowest) ? lowest
                    : y >= end                       ? highest
                                                     : static_cast<To>(y);
  put<To>(t, i.slot[0], result);
}

// Every case of type <- type2.
void convert(Thread& t, const Instruction& i);

}  // namespace ptx
