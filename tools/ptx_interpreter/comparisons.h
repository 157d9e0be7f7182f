// Handlers of comparisons and selections.
#pragma once

#include "machine.h"
#include "number_formats.h"

namespace ptx {

// Instruction::op of setp and set. Those that end in U also hold where a source is NaN.
enum Comparison : u8 {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kLower,
  kLowerSame,
  kHigher,
  kHigherSame,  // the unsigned ones: types say that too
  kEqualU,
  kNotEqualU,
  kLessU,
  kLessEqualU,
  kGreaterU,
  kGreaterEqualU,
  kBothNumbers,
  kEitherNan,
};

template <class T>
bool compare(int comparison, T a, T b) {
  const bool nan = a != a || b != b;
  switch (comparison) {
    case kEqual:
      return a == b;
    case kNotEqual:
      return !nan && a != b;
    case kLess:
    case kLower:
      return a < b;
    case kLessEqual:
    case kLowerSame:
      return a <= b;
    case kGreater:
    case kHigher:
      return a > b;
    case kGreaterEqual:
    case kHigherSame:
      return a >= b;
    case kEqualU:
      return nan || a == b;
    case kNotEqualU:
      return nan || a != b;
    case kLessU:
      return nan || a < b;
    case kLessEqualU:
      return nan || a <= b;
    case kGreaterU:
      return nan || a > b;
    case kGreaterEqualU:
      return nan || a >= b;
    case kBothNumbers:
      return !nan;
    default:
      return nan;
  }
}

// The predicate among the sources of an instruction.
inline bool source_predicate(const Thread& t, const Instruction& i, int slot) {
  return (t.slots[slot] & 1) != ((i.flags & kNegatedSource) != 0);
}

// Instruction::mode of setp and set: what joins the comparison to a predicate.
enum Combination : u8 { kAlone, kAnd, kOr, kXor };
inline bool combine(const Thread& t, const Instruction& i, bool x, int slot) {
  if (i.mode == kAlone) return x;
  const bool other = source_predicate(t, i, slot);
  return i.mode == kAnd ? x && other : i.mode == kOr ? x || other : x != other;
}

template <class T>
bool compare_slots(const Thread& t, const Instruction& i, int a, int b) {
  T x = get<T>(t, a), y = get<T>(t, b);
  if constexpr (std::is_same_v<T, float>) {
    if (i.flags & kFlush) {
      x = flush(x);
      y = flush(y);
    }
  }
  return compare(i.op, x, y);
}

inline bool compare_halves(const Thread& t, const Instruction& i, int a, int b, int which) {
  const auto operand = [&](int slot) {
    const double x = decode_half(static_cast<u16>(t.slots[slot] >> 16 * which), is_bfloat(i.type2));
    return i.flags & kFlush ? flush_half(x) : x;
  };
  return compare(i.op, operand(a), operand(b));
}

// slot: p, q, a, b, c
template <class T>
void set_predicate(Thread& t, const Instruction& i) {
  const bool x = compare_slots<T>(t, i, i.slot[2], i.slot[3]);
  const bool p = combine(t, i, x, i.slot[4]), q = combine(t, i, !x, i.slot[4]);
  t.slots[i.slot[0]] = p;
  t.slots[i.slot[1]] = q;
}

// Of pairs of halves, q is the comparison of the second ones.
inline void set_predicate_of_halves(Thread& t, const Instruction& i) {
  const bool x = compare_halves(t, i, i.slot[2], i.slot[3], 0);
  const bool y = halves_in(i.type2) == 2 ? compare_halves(t, i, i.slot[2], i.slot[3], 1) : !x;
  const bool p = combine(t, i, x, i.slot[4]), q = combine(t, i, y, i.slot[4]);
  t.slots[i.slot[0]] = p;
  t.slots[i.slot[1]] = q;
}

// What `set` writes for true: 1 in a floating point format, all ones in an integer.
inline u64 truth(Type type, bool x) {
  if (!x) return 0;
  if (type == Type::F32) return 0x3f800000;
  if (type == Type::F16 || type == Type::F16x2) return 0x3c00;
  if (is_bfloat(type)) return 0x3f80;
  return size_of(type) == 2 ? 0xffff : 0xffffffff;
}

template <class T>
void set_value(Thread& t, const Instruction& i) {
  const bool x = compare_slots<T>(t, i, i.slot[1], i.slot[2]);
  t.slots[i.slot[0]] = truth(i.type, combine(t, i, x, i.slot[3]));
}

inline void set_value_of_halves(Thread& t, const Instruction& i) {
  const auto half = [&](int which) {
    const bool x = compare_halves(t, i, i.slot[1], i.slot[2], which);
    return truth(i.type, combine(t, i, x, i.slot[3]));
  };
  u64 result = half(0);
  if (halves_in(i.type2) == 2) result = (result & 0xffff) | (half(1) & 0xffff) << 16;
  t.slots[i.slot[0]] = result;
}

template <class T>
void select_by_predicate(Thread& t, const Instruction& i) {
  const int chosen = source_predicate(t, i, i.slot[3]) ? i.slot[1] : i.slot[2];
  put<T>(t, i.slot[0], get<T>(t, chosen));
}

template <class T>
void select_by_sign(Thread& t, const Instruction& i) {
  const bool first =
      i.type2 == Type::F32 ? get<float>(t, i.slot[3]) >= 0 : get<s32>(t, i.slot[3]) >= 0;
  put<T>(t, i.slot[0], get<T>(t, i.slot[first ? 1 : 2]));
}

}  // namespace ptx
