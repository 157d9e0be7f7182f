// Handlers of integer and bit instructions. A handler reads its sources from slot[1] on and writes
// slot[0].
//
// The library is compiled with -fwrapv: signed arithmetic wraps around, as on a GPU.
#pragma once

#include <algorithm>
#include <limits>

#include "machine.h"

namespace ptx {

template <class T>
struct WideOf;
template <>
struct WideOf<u16> {
  using type = u32;
};
template <>
struct WideOf<s16> {
  using type = s32;
};
template <>
struct WideOf<u32> {
  using type = u64;
};
template <>
struct WideOf<s32> {
  using type = s64;
};
template <>
struct WideOf<u64> {
  using type = u128;
};
template <>
struct WideOf<s64> {
  using type = s128;
};
template <class T>
using Wide = typename WideOf<T>::type;
template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
constexpr u32 kBits = sizeof(T) * 8;

// An instruction of type T whose result, also of type T, is an expression of its sources a, b, c.
#define PTX_INTEGER(name, expression)                  \
  template <class T>                                   \
  void name(Thread& t, const Instruction& i) {         \
    [[maybe_unused]] const T a = get<T>(t, i.slot[1]); \
    [[maybe_unused]] const T b = get<T>(t, i.slot[2]); \
    [[maybe_unused]] const T c = get<T>(t, i.slot[3]); \
    put<T>(t, i.slot[0], static_cast<T>(expression));  \
  }

PTX_INTEGER(integer_add, a + b)
PTX_INTEGER(integer_subtract, a - b)
PTX_INTEGER(integer_multiply_low, (a * b))
PTX_INTEGER(integer_multiply_high, (static_cast<Wide<T>>(a) * b) >> kBits<T>)
PTX_INTEGER(integer_mad_low, (a * b) + c)
PTX_INTEGER(integer_mad_high, ((static_cast<Wide<T>>(a) * b) >> kBits<T>)+c)
PTX_INTEGER(integer_min, std::min(a, b))
PTX_INTEGER(integer_max, std::max(a, b))
PTX_INTEGER(integer_negate, 0 - a)
PTX_INTEGER(integer_absolute, a < 0 ? 0 - a : a)
PTX_INTEGER(integer_sad, c + (a < b ? b - a : a - b))
PTX_INTEGER(bits_and, (a & b))
PTX_INTEGER(bits_or, a | b)
PTX_INTEGER(bits_xor, a ^ b)
PTX_INTEGER(bits_not, ~a)
PTX_INTEGER(logical_not, a == 0)
// The quotient and the remainder of a division by 0 are what GPUs give; that of the smallest number
// by -1 must not reach the processor, which would trap.
PTX_INTEGER(integer_divide, b == 0                              ? T(-1)
                            : b == T(-1) && std::is_signed_v<T> ? T(0 - a)
                                                                : T(a / b))
PTX_INTEGER(integer_remainder, b == 0 ? a : b == T(-1) && std::is_signed_v<T> ? T(0) : T(a % b))
PTX_INTEGER(integer_add_saturated, std::clamp<s64>(s64{a} + b, std::numeric_limits<s32>::min(),
                                                   std::numeric_limits<s32>::max()))
PTX_INTEGER(integer_subtract_saturated, std::clamp<s64>(s64{a} - b, std::numeric_limits<s32>::min(),
                                                        std::numeric_limits<s32>::max()))
// The low 24 bits of each factor, with the sign of bit 23.
PTX_INTEGER(integer_multiply24, static_cast<T>(a << 8) / 256 * s64(static_cast<T>(b << 8) / 256))
PTX_INTEGER(integer_mad24, static_cast<T>(a << 8) / 256 * s64(static_cast<T>(b << 8) / 256) + c)
#undef PTX_INTEGER

template <class T>
void integer_multiply_wide(Thread& t, const Instruction& i) {
  put<Wide<T>>(t, i.slot[0], static_cast<Wide<T>>(get<T>(t, i.slot[1])) * get<T>(t, i.slot[2]));
}

template <class T>
void integer_mad_wide(Thread& t, const Instruction& i) {
  const Wide<T> product = static_cast<Wide<T>>(get<T>(t, i.slot[1])) * get<T>(t, i.slot[2]);
  put<Wide<T>>(t, i.slot[0], product + get<Wide<T>>(t, i.slot[3]));
}

template <class T>
void count_bits(Thread& t, const Instruction& i) {
  const auto a = static_cast<Unsigned<T>>(get<T>(t, i.slot[1]));
  put<u32>(t, i.slot[0], static_cast<u32>(__builtin_popcountll(a)));
}

template <class T>
void count_leading_zeros(Thread& t, const Instruction& i) {
  const auto a = static_cast<Unsigned<T>>(get<T>(t, i.slot[1]));
  put<u32>(t, i.slot[0], a ? static_cast<u32>(__builtin_clzll(a)) - (64 - kBits<T>) : kBits<T>);
}

template <class T>
void shift_left(Thread& t, const Instruction& i) {
  const u32 n = get<u32>(t, i.slot[2]);
  put<T>(t, i.slot[0], n >= kBits<T> ? T(0) : static_cast<T>(get<T>(t, i.slot[1]) << n));
}

template <class T>
void shift_right(Thread& t, const Instruction& i) {
  const u32 n = get<u32>(t, i.slot[2]);
  const T a = get<T>(t, i.slot[1]);
  put<T>(t, i.slot[0], n >= kBits<T> ? T(a < 0 ? -1 : 0) : static_cast<T>(a >> n));
}

template <class T>
void reverse_bits(Thread& t, const Instruction& i) {
  const T a = get<T>(t, i.slot[1]);
  T result = 0;
  for (u32 bit = 0; bit < kBits<T>; ++bit) result |= ((a >> bit) & 1) << (kBits<T> - 1 - bit);
  put<T>(t, i.slot[0], result);
}

// bfind: where the first bit lies that differs from the sign; mode 1 (.shiftamt) counts from above.
template <class T>
void find_bit(Thread& t, const Instruction& i) {
  T a = get<T>(t, i.slot[1]);
  if (a < 0) a = ~a;
  u32 found = a ? 63 - __builtin_clzll(u64{static_cast<Unsigned<T>>(a)}) : ~u32{0};
  if (found != ~u32{0} && i.mode) found = kBits<T> - 1 - found;
  put<u32>(t, i.slot[0], found);
}

// bfe: `length` bits from `position` on; beyond the register, and above the field, lies the sign of
// the field.
template <class T>
void extract_field(Thread& t, const Instruction& i) {
  const u64 a = static_cast<Unsigned<T>>(get<T>(t, i.slot[1]));
  const u32 position = get<u32>(t, i.slot[2]) & 255;
  const u32 length = get<u32>(t, i.slot[3]) & 255;
  const u32 top = kBits<T> - 1;
  const u32 n = position > top ? 0 : std::min(length, top + 1 - position);
  u64 field = n ? (a >> position) & (n == 64 ? ~u64{0} : (u64{1} << n) - 1) : 0;
  if (std::is_signed_v<T> && length && ((a >> std::min(position + length - 1, top)) & 1) &&
      n <= top) {
    field |= ~u64{0} << n;
  }
  put<T>(t, i.slot[0], static_cast<T>(field));
}

// bfi: the low `length` bits of a, put into b from `position` on.
template <class T>
void insert_field(Thread& t, const Instruction& i) {
  const T a = get<T>(t, i.slot[1]);
  T result = get<T>(t, i.slot[2]);
  const u32 position = get<u32>(t, i.slot[3]) & 255;
  const u32 length = get<u32>(t, i.slot[4]) & 255;
  for (u32 bit = 0; bit < length && position + bit < kBits<T>; ++bit) {
    const T mask = T(1) << (position + bit);
    result = (result & ~mask) | (((a >> bit) & 1) << (position + bit));
  }
  put<T>(t, i.slot[0], result);
}

// lop3: any function of three bits, given by its table of eight.
inline void logic_of_three(Thread& t, const Instruction& i) {
  const u32 a = get<u32>(t, i.slot[1]), b = get<u32>(t, i.slot[2]), c = get<u32>(t, i.slot[3]);
  const u32 table = get<u32>(t, i.slot[4]);
  u32 result = 0;
  for (int row = 0; row < 8; ++row) {
    if (table >> row & 1) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  }
  put<u32>(t, i.slot[0], result);
}

// bmsk: b ones from bit a on. mode: 0 clamp, 1 wrap.
inline void bit_mask(Thread& t, const Instruction& i) {
  const u32 a = get<u32>(t, i.slot[1]), b = get<u32>(t, i.slot[2]);
  const bool outside = i.mode == 0 && a > 31, wide = i.mode == 0 && b > 31;
  const u32 first = a & 31, end = first + (b & 31);
  const u32 from_first = outside ? 0 : ~u32{0} << first;
  const u32 from_end = end > 31 || outside || wide ? 0 : ~u32{0} << end;
  put<u32>(t, i.slot[0], from_first & ~from_end);
}

// shf: a shift of two registers as one. mode: bit 0 right, bit 1 wrap.
inline void funnel_shift(Thread& t, const Instruction& i) {
  const u64 both = u64{get<u32>(t, i.slot[2])} << 32 | get<u32>(t, i.slot[1]);
  u32 n = get<u32>(t, i.slot[3]);
  n = i.mode & 2 ? n & 31 : std::min(n, 32u);
  put<u32>(t, i.slot[0], static_cast<u32>(i.mode & 1 ? both >> n : (both << n) >> 32));
}

// prmt: four of the eight bytes of two registers.
enum PermuteMode : u8 { kPermute, kForward4, kBackward4, kReplicate8, kEdgeLeft, kEdgeRight };
inline void permute_bytes(Thread& t, const Instruction& i) {
  const u64 bytes = u64{get<u32>(t, i.slot[2])} << 32 | get<u32>(t, i.slot[1]);
  const u32 control = get<u32>(t, i.slot[3]), first = control & 3;
  u32 result = 0;
  for (u32 k = 0; k < 4; ++k) {
    u32 which;
    switch (i.mode) {
      case kPermute:
        which = control >> 4 * k & 15;
        break;
      case kForward4:
        which = first + k;
        break;
      case kBackward4:
        which = (first - k) & 7;
        break;
      case kReplicate8:
        which = first;
        break;
      case kEdgeLeft:
        which = std::max(k, first);
        break;
      case kEdgeRight:
        which = std::min(k, first);
        break;
      default:
        which = (control & 1) * 2 + (k & 1);  // .rc16
    }
    u32 byte = bytes >> 8 * (which & 7) & 255;
    if (which & 8) byte = byte & 128 ? 255 : 0;  // only its sign
    result |= byte << 8 * k;
  }
  put<u32>(t, i.slot[0], result);
}

inline void dot_product4(Thread& t, const Instruction& i) {
  const u32 a = get<u32>(t, i.slot[1]), b = get<u32>(t, i.slot[2]);
  const auto byte = [](u32 word, int shift, bool with_sign) {
    return with_sign ? int{static_cast<s8>(word >> shift)} : int{static_cast<u8>(word >> shift)};
  };
  u32 sum = get<u32>(t, i.slot[3]);
  for (int shift = 0; shift < 32; shift += 8) {
    sum += byte(a, shift, is_signed(i.type)) * byte(b, shift, is_signed(i.type2));
  }
  put<u32>(t, i.slot[0], sum);
}

// Arithmetic of extended precision: add.cc, addc and their like.
enum CarryOperation : u8 { kAddCarry, kSubtractCarry, kMadLowCarry, kMadHighCarry };
template <class T>
void with_carry(Thread& t, const Instruction& i) {
  using U = Unsigned<T>;
  const T a = get<T>(t, i.slot[1]), b = get<T>(t, i.slot[2]);
  const U carry = (i.flags & kCarryIn) && t.carry;
  u128 result;
  switch (i.op) {
    case kAddCarry:
      result = u128{static_cast<U>(a)} + static_cast<U>(b) + carry;
      break;
    case kSubtractCarry:
      result = u128{static_cast<U>(a)} - static_cast<U>(b) - carry;
      break;
    default: {
      const Wide<T> product = static_cast<Wide<T>>(a) * b;
      const auto part = static_cast<U>(product >> (i.op == kMadHighCarry ? kBits<T> : 0));
      result = u128{part} + get<U>(t, i.slot[3]) + carry;
    }
  }
  put<T>(t, i.slot[0], static_cast<T>(result));
  if (i.flags & kCarryOut) t.carry = result >> kBits<T> & 1;
}

}  // namespace ptx
