// Functions of the device on integers and bits, and loads and stores with hints for the cache.
#pragma once

#include "cuda_emulator/fault.h"
#include "cuda_emulator/warp.h"

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }

inline unsigned long long __brevll(unsigned long long x) {
  unsigned long long result = 0;
  for (int i = 0; i < 64; ++i) result |= (x >> i & 1) << (63 - i);
  return result;
}
inline unsigned __brev(unsigned x) { return static_cast<unsigned>(__brevll(x) >> 32); }

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(int64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((uint64_t{high} << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (shift & 31));
}

inline float __int_as_float(int x) { return ::cuda_emulator::bits_to<float>(x); }
inline int __float_as_int(float x) { return ::cuda_emulator::bits_to<int>(x); }
inline float __uint_as_float(unsigned x) { return ::cuda_emulator::bits_to<float>(x); }
inline unsigned __float_as_uint(float x) { return ::cuda_emulator::bits_to<unsigned>(x); }
inline double __longlong_as_double(long long x) { return ::cuda_emulator::bits_to<double>(x); }
inline long long __double_as_longlong(double x) { return ::cuda_emulator::bits_to<long long>(x); }
inline int __double2hiint(double x) { return static_cast<int>(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return static_cast<int>(__double_as_longlong(x)); }
inline double __hiloint2double(int high, int low) {
  return ::cuda_emulator::bits_to<double>(uint64_t{static_cast<unsigned>(high)} << 32 |
                                          static_cast<unsigned>(low));
}

// Loads and stores whose hints mean nothing here.
#define CUDA_EMULATOR_LOAD(name) \
  template <typename T>          \
  T name(const T* address) {     \
    return *address;             \
  }
CUDA_EMULATOR_LOAD(__ldg)
CUDA_EMULATOR_LOAD(__ldca)
CUDA_EMULATOR_LOAD(__ldcg)
CUDA_EMULATOR_LOAD(__ldcs)
CUDA_EMULATOR_LOAD(__ldcv)
CUDA_EMULATOR_LOAD(__ldlu)
#undef CUDA_EMULATOR_LOAD

#define CUDA_EMULATOR_STORE(name)                      \
  template <typename T>                                \
  void name(T* address, std::common_type_t<T> value) { \
    *address = value;                                  \
  }
CUDA_EMULATOR_STORE(__stcg)
CUDA_EMULATOR_STORE(__stcs)
CUDA_EMULATOR_STORE(__stwb)
CUDA_EMULATOR_STORE(__stwt)
#undef CUDA_EMULATOR_STORE

[[noreturn]] inline void __trap() { ::cuda_emulator::fail("__trap()"); }
inline void __nanosleep(unsigned) {}
