// One source, several instruction sets.
//
// A kernel is an always-inline template. Each op compiles it once for each level, inside a function
// that targets the level, and Versions::select() picks the one to call at run time. The compiler
// vectorises the loops. Threads start outside: an OpenMP region would lose the target.
#pragma once

namespace fvfast::cpu {

enum class SimdLevel { kBaseline, kAvx2, kAvx512 };

// The level in use: the highest that this processor supports, unless lowered.
SimdLevel simd_level();

// Lowers the level, to test or to measure it; returns false if the processor does not support it.
bool set_simd_level(SimdLevel level);

#if defined(__x86_64__) && defined(__GNUC__)
#define FVFAST_X86 1
#define FVFAST_TARGET_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define FVFAST_TARGET_AVX512 \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"), min_vector_width(512)))
#else
#define FVFAST_TARGET_AVX512 \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#else
#define FVFAST_X86 0
#endif

// The versions of one kernel.
template <typename Function>
struct Versions {
  Function* baseline;
  Function* avx2;
  Function* avx512;

  Function* select() const {
    switch (simd_level()) {
      case SimdLevel::kAvx512:
        return avx512;
      case SimdLevel::kAvx2:
        return avx2;
      case SimdLevel::kBaseline:
        break;
    }
    return baseline;
  }
};

}  // namespace fvfast::cpu
