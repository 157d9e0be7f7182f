// Handlers that move data: mov, addresses, ld, st, cp.async, atomics.
#pragma once

#include <algorithm>

#include "float_operations.h"

namespace ptx {

template <class T>
void move(Thread& t, const Instruction& i) {
  put<T>(t, i.slot[0], get<T>(t, i.slot[1]));
}

// mov.b64 d, {a, b}. Values of 128 bits lie in two slots.
inline void pack(Thread& t, const Instruction& i) {
  const u32 bits = 8 * size_of(i.type) / i.elements;
  u64 words[2] = {0, 0};
  for (u32 k = 0; k < i.elements; ++k) {
    const u64 source = t.slots[i.slot[k + 1]];
    const u64 element = bits == 64 ? source : source & ((u64{1} << bits) - 1);
    words[k * bits / 64] |= element << (k * bits & 63);
  }
  t.slots[i.slot[0]] = words[0];
  if (i.type == Type::B128) t.slots[i.slot[0] + 1] = words[1];
}

// mov.b64 {a, b}, s.
inline void unpack(Thread& t, const Instruction& i) {
  const u32 bits = 8 * size_of(i.type) / i.elements;
  const int source = i.slot[kAddressSlot];
  const u64 words[2] = {t.slots[source], i.type == Type::B128 ? t.slots[source + 1] : 0};
  for (u32 k = 0; k < i.elements; ++k) {
    const u64 element = words[k * bits / 64] >> (k * bits & 63);
    t.slots[i.slot[k]] = bits == 64 ? element : element & ((u64{1} << bits) - 1);
  }
}

// The clocks of a GPU: here they count instructions.
inline void move_clock(Thread& t, const Instruction& i) {
  const u64 now = t.machine->steps;
  t.slots[i.slot[0]] = size_of(i.type) == 4 ? static_cast<u32>(now) : now;
}

// The address of a symbol; cvta.
inline void load_address(Thread& t, const Instruction& i) {
  t.slots[i.slot[0]] = t.slots[i.slot[kAddressSlot]] + static_cast<u64>(i.offset);
}

inline void is_space(Thread& t, const Instruction& i) {
  const unsigned found = window_of(t.slots[i.slot[1]]);
  const u64 place = t.slots[i.slot[1]] & kWithoutWindow;
  if (i.space == Space::Shared && found == kSharedWindow && place >= kRankStride) {
    t.slots[i.slot[0]] = place / kRankStride - 1 == t.block->rank;
    return;
  }
  const bool shared = i.space == Space::Shared || i.space == Space::Cluster;
  const unsigned wanted = shared                        ? kSharedWindow
                          : i.space == Space::Local     ? kLocalWindow
                          : i.space == Space::Parameter ? kParameterWindow
                                                        : kHost;
  t.slots[i.slot[0]] = found == wanted;
}

// The same place in the shared memory of another block of the cluster.
inline void map_to_rank(Thread& t, const Instruction& i) {
  const u64 address = t.slots[i.slot[kAddressSlot]] + static_cast<u64>(i.offset);
  const u32 rank = get<u32>(t, i.slot[1]);
  if (rank >= t.machine->blocks.size()) t.machine->fail(t, i, "the cluster has not got this rank");
  if (i.space == Space::Generic && window_of(address) != kSharedWindow) {
    t.machine->fail(t, i, "not an address of shared memory");
  }
  const u64 place = address & kWithoutWindow;
  t.slots[i.slot[0]] = address - place + place % kRankStride + (rank + 1) * u64{kRankStride};
}

inline void rank_of_address(Thread& t, const Instruction& i) {
  const u64 place = t.slots[i.slot[1]] & kWithoutWindow;
  t.slots[i.slot[0]] = place < kRankStride ? t.block->rank : place / kRankStride - 1;
}

inline u64 address_of(const Thread& t, const Instruction& i) {
  const int slot = i.slot[kAddressSlot];
  const u64 offset = static_cast<u64>(i.offset);
  if (i.flags & kAddress32) return static_cast<u32>(get<u32>(t, slot) + offset);
  return t.slots[slot] + offset;
}

template <class T>
void load(Thread& t, const Instruction& i) {
  const u8* from = t.machine->access(t, i, address_of(t, i), sizeof(T) * i.elements, Access::Load);
  for (int k = 0; k < i.elements; ++k) {
    T value;
    std::memcpy(&value, from + k * sizeof(T), sizeof(T));
    put<T>(t, i.slot[k], value);
  }
}

template <class T>
void store(Thread& t, const Instruction& i) {
  u8* to = t.machine->access(t, i, address_of(t, i), sizeof(T) * i.elements, Access::Store);
  for (int k = 0; k < i.elements; ++k) {
    const T value = get<T>(t, i.slot[k]);
    std::memcpy(to + k * sizeof(T), &value, sizeof(T));
  }
}

// cp.async copies `elements` bytes at once, of which slot[0] says how many to read; the rest is 0.
// The next site is that of the load.
inline void copy_async(Thread& t, const Instruction& i) {
  Instruction source = i;
  source.space = Space::Global;
  source.site = i.site + 1;
  source.flags &= static_cast<u16>(~kAddress32);
  const u64 from = t.slots[i.slot[kSecondAddressSlot]] + static_cast<s64>(i.slot[kMaskSlot]);
  const u32 bytes = std::min<u32>(i.elements, get<u32>(t, i.slot[0]));
  u8* to = t.machine->access(t, i, address_of(t, i), i.elements, Access::Store);
  std::memset(to, 0, i.elements);
  if (bytes) {
    std::memcpy(to, t.machine->access(t, source, from, i.elements, Access::Load), bytes);
  }
}

enum AtomicOperation : u8 {
  kAtomicAdd,
  kAtomicMin,
  kAtomicMax,
  kAtomicAnd,
  kAtomicOr,
  kAtomicXor,
  kAtomicExchange,
  kAtomicCas,
  kAtomicIncrement,
  kAtomicDecrement,
};

template <class T>
T atomic_result(int operation, T old, T b, T c) {
  if constexpr (std::is_floating_point_v<T>) {
    return operation == kAtomicAdd ? old + b : min_or_max(old, b, operation == kAtomicMax, false);
  } else {
    switch (operation) {
      case kAtomicAdd:
        return static_cast<T>(old + b);
      case kAtomicMin:
        return std::min(old, b);
      case kAtomicMax:
        return std::max(old, b);
      case kAtomicAnd:
        return old & b;
      case kAtomicOr:
        return old | b;
      case kAtomicXor:
        return old ^ b;
      case kAtomicExchange:
        return b;
      case kAtomicCas:
        return old == b ? c : old;
      case kAtomicIncrement:
        return old >= b ? T(0) : static_cast<T>(old + 1);
      default:
        return old == 0 || old > b ? b : static_cast<T>(old - 1);
    }
  }
}

// slot: destinations [0, elements), sources [elements, 2 elements); the third operand of cas is 2.
template <class T>
void atomic(Thread& t, const Instruction& i) {
  const u64 address = address_of(t, i);
  u8* at = t.machine->access(t, i, address, sizeof(T) * i.elements, Access::Atomic);
  for (int k = 0; k < i.elements; ++k) {
    T old;
    std::memcpy(&old, at + k * sizeof(T), sizeof(T));
    const T b = get<T>(t, i.slot[i.elements + k]), c = get<T>(t, i.slot[2]);
    T result;
    if constexpr (std::is_same_v<T, float>) {
      // In global memory sums flush subnormal numbers.
      const bool global =
          i.space == Space::Global || (i.space == Space::Generic && window_of(address) == kHost);
      result = global ? flush(atomic_result(i.op, flush(old), flush(b), c))
                      : atomic_result(i.op, old, b, c);
    } else {
      result = atomic_result(i.op, old, b, c);
    }
    std::memcpy(at + k * sizeof(T), &result, sizeof(T));
    if constexpr (std::is_same_v<T, float>) {
      u32 bits;  // as they are: put() would make a NaN canonical
      std::memcpy(&bits, &old, sizeof bits);
      t.slots[i.slot[k]] = bits;
    } else {
      put<T>(t, i.slot[k], old);
    }
  }
}

inline void atomic_halves(Thread& t, const Instruction& i) {
  const unsigned bytes = size_of(i.type);
  const bool bfloat = is_bfloat(i.type);
  u8* at = t.machine->access(t, i, address_of(t, i), bytes * i.elements, Access::Atomic);
  for (int k = 0; k < i.elements; ++k) {
    const u32 b = get<u32>(t, i.slot[i.elements + k]);
    u32 old = 0, result = 0;
    std::memcpy(&old, at + k * bytes, bytes);
    for (int half = 0; half < halves_in(i.type); ++half) {
      const double x = decode_half(static_cast<u16>(old >> 16 * half), bfloat);
      const double y = decode_half(static_cast<u16>(b >> 16 * half), bfloat);
      const double z =
          i.op == kAtomicAdd ? add_to_odd(x, y) : min_or_max(x, y, i.op == kAtomicMax, false);
      result |= u32{encode_half(z, bfloat)} << 16 * half;
    }
    std::memcpy(at + k * bytes, &result, bytes);
    put<u32>(t, i.slot[k], old);
  }
}

}  // namespace ptx
