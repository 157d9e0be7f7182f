// Atomic functions: they order nothing but themselves, as on a GPU.
#pragma once

#include "cuda_emulator/scheduler.h"
#include "cuda_emulator/warp.h"

namespace cuda_emulator {

// Replaces *address by change(*address); returns what was there.
template <typename T, typename Change>
T update(T* address, Change change) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "the emulator has atomics of 4 and 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  {
    const Unobserved unobserved;
    scheduler.preempt();
  }
  Bits* bits = reinterpret_cast<Bits*>(address);
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED);
  for (;;) {
    const Bits after = bits_to<Bits>(static_cast<T>(change(bits_to<T>(before))));
    if (__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      return bits_to<T>(before);
    }
  }
}

}  // namespace cuda_emulator

template <typename T, typename V>
T atomicAdd(T* address, V value) {
  return ::cuda_emulator::update(address, [=](T before) { return before + T(value); });
}

template <typename T, typename V>
T atomicSub(T* address, V value) {
  return ::cuda_emulator::update(address, [=](T before) { return before - T(value); });
}

template <typename T, typename V>
T atomicMax(T* address, V value) {
  return ::cuda_emulator::update(address,
                                 [=](T before) { return before > T(value) ? before : T(value); });
}

template <typename T, typename V>
T atomicMin(T* address, V value) {
  return ::cuda_emulator::update(address,
                                 [=](T before) { return before < T(value) ? before : T(value); });
}

template <typename T, typename V>
T atomicAnd(T* address, V value) {
  return ::cuda_emulator::update(address, [=](T before) { return before & T(value); });
}

template <typename T, typename V>
T atomicOr(T* address, V value) {
  return ::cuda_emulator::update(address, [=](T before) { return before | T(value); });
}

template <typename T, typename V>
T atomicXor(T* address, V value) {
  return ::cuda_emulator::update(address, [=](T before) { return before ^ T(value); });
}

template <typename T, typename V>
T atomicExch(T* address, V value) {
  return ::cuda_emulator::update(address, [=](T) { return T(value); });
}

template <typename T, typename C, typename V>
T atomicCAS(T* address, C compare, V value) {
  return ::cuda_emulator::update(
      address, [=](T before) { return before == T(compare) ? T(value) : before; });
}

// Memory is in order here. ThreadSanitizer does not know fences: see README.md.
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
