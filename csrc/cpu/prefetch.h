// Asks for memory that will be read soon. A processor foresees what follows what is read, but not
// the next row of an array, which lies elsewhere.
#pragma once

#include <cstdint>

#include "common/macros.h"

namespace fvfast::cpu {

constexpr int64_t kCacheLine = 64;

// The elements [0, count) of an array.
template <typename T>
FVFAST_HOST_DEVICE void prefetch(const T* first, int64_t count) {
  constexpr int64_t kStep = kCacheLine / sizeof(T);
  for (int64_t i = 0; i < count; i += kStep) __builtin_prefetch(first + i);
}

}  // namespace fvfast::cpu
