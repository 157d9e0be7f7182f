#include "cpu/simd.h"

#include <atomic>

namespace fvfast::cpu {
namespace {

SimdLevel supported_level() {
#if FVFAST_X86
  // These also ask whether the operating system saves the registers.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return SimdLevel::kAvx512;
    }
    return SimdLevel::kAvx2;
  }
#endif
  return SimdLevel::kBaseline;
}

std::atomic<SimdLevel>& current_level() {
  static std::atomic<SimdLevel> level{supported_level()};
  return level;
}

}  // namespace

SimdLevel simd_level() { return current_level().load(std::memory_order_relaxed); }

bool set_simd_level(SimdLevel level) {
  if (level > supported_level()) return false;
  current_level().store(level, std::memory_order_relaxed);
  return true;
}

}  // namespace fvfast::cpu
