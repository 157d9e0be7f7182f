// One source, several instruction sets.
//
// A kernel is a struct with an always-inline function run<level>(arguments...). Versions compiles
// it once for each level, inside a function that targets the level, and select_version() picks the
// one to call at run time:
//
//   struct Fill {
//     template <SimdLevel level>
//     static FVFAST_HOST_DEVICE void run(float* out, int64_t begin, int64_t end);
//   };
//   const auto fill = select_version<Fill>();
//   parallel_for(count, grain, [&](int64_t begin, int64_t end) { fill(out, begin, end); });
//
// The compiler vectorizes the loops. Threads start outside: an OpenMP region would lose the target.
#pragma once

#include "common/macros.h"

namespace fvfast::cpu {

enum class SimdLevel { kBaseline, kAvx2, kAvx512 };

// The level in use: the highest that this processor supports, unless lowered.
SimdLevel simd_level();

// Lowers the level, to test it or to measure it; returns false if the processor does not support
// it.
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

// The versions of one kernel, as functions of the same arguments.
template <typename Kernel, typename Function>
struct Versions;

template <typename Kernel, typename... Arguments>
struct Versions<Kernel, void (*)(Arguments...)> {
  static void baseline(Arguments... arguments) {
    Kernel::template run<SimdLevel::kBaseline>(arguments...);
  }

#if FVFAST_X86
  FVFAST_TARGET_AVX2 static void avx2(Arguments... arguments) {
    Kernel::template run<SimdLevel::kAvx2>(arguments...);
  }

  FVFAST_TARGET_AVX512 static void avx512(Arguments... arguments) {
    Kernel::template run<SimdLevel::kAvx512>(arguments...);
  }
#endif

  static auto select() {
    switch (simd_level()) {
#if FVFAST_X86
      case SimdLevel::kAvx512:
        return &avx512;
      case SimdLevel::kAvx2:
        return &avx2;
#endif
      default:
        return &baseline;
    }
  }
};

// The version of a kernel for the level in use: a pointer to a function.
template <typename Kernel>
auto select_version() {
  return Versions<Kernel, decltype(&Kernel::template run<SimdLevel::kBaseline>)>::select();
}

}  // namespace fvfast::cpu
