// Elements in registers as words of memory, for accesses of up to 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/bits.h"
#include "common/element.h"

namespace fvfast::cuda {

// Elements in 16 bytes.
template <typename Element>
constexpr int kPack = 16 / static_cast<int>(sizeof(typename Element::Storage));

// Packs `count` elements, in the order of memory, into count * sizeof(Storage) / 4 words.
template <typename Element, int count, typename Real>
__device__ void pack(const Real (&values)[count], uint32_t* words) {
  using To = typename Element::Real;
  FVFAST_UNROLL
  for (int i = 0; i < count; ++i) {
    const typename Element::Storage item = Element::store(static_cast<To>(values[i]));
    if constexpr (sizeof(item) == 8) {
      const uint64_t bits = static_cast<uint64_t>(bits_of(item));
      words[2 * i] = static_cast<uint32_t>(bits);
      words[2 * i + 1] = static_cast<uint32_t>(bits >> 32);
    } else if constexpr (sizeof(item) == 4) {
      words[i] = static_cast<uint32_t>(bits_of(item));
    } else if (i % 2 == 0) {
      words[i / 2] = item;
    } else {
      words[i / 2] |= static_cast<uint32_t>(item) << 16;
    }
  }
}

template <typename Element, int count, typename Real>
__device__ void unpack(const uint32_t* words, Real (&values)[count]) {
  typename Element::Storage item;
  FVFAST_UNROLL
  for (int i = 0; i < count; ++i) {
    if constexpr (sizeof(item) == 8) {
      item = double_of(static_cast<int64_t>(words[2 * i] | uint64_t{words[2 * i + 1]} << 32));
    } else if constexpr (sizeof(item) == 4) {
      item = float_of(static_cast<int32_t>(words[i]));
    } else {
      item = static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16));
    }
    values[i] = static_cast<Real>(Element::load(item));
  }
}

// Four numbers of shared memory, aligned to 16 bytes.
__device__ inline void load_four(const float* from, float (&values)[4]) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
}

__device__ inline void load_four(const double* from, double (&values)[4]) {
  for (int i = 0; i < 4; ++i) values[i] = from[i];
}

__device__ inline void store_four(const float (&values)[4], float* to) {
  *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
}

__device__ inline void store_four(const double (&values)[4], double* to) {
  for (int i = 0; i < 4; ++i) to[i] = values[i];
}

// Whether kBytes can be accessed at once at an address.
template <int kBytes>
FVFAST_HOST_DEVICE bool is_aligned_to(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % kBytes == 0;
}

// Words of memory that are read and written with as few accesses as 16 bytes each allow.
template <int kWords>
struct Words {
  uint32_t words[kWords];

  __device__ void load(const void* from) {
    if constexpr (kWords == 2) {
      const uint2 two = *static_cast<const uint2*>(from);
      words[0] = two.x, words[1] = two.y;
    } else {
      FVFAST_UNROLL
      for (int i = 0; i < kWords / 4; ++i) {
        const uint4 four = static_cast<const uint4*>(from)[i];
        words[4 * i] = four.x, words[4 * i + 1] = four.y;
        words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
      }
    }
  }

  // __stcg caches as a plain store does. But the compiler does not merge it with the stores of
  // single elements that a kernel has for other cases; of plain stores it would keep only the
  // single ones.
  __device__ void store(void* to) const {
    if constexpr (kWords == 2) {
      __stcg(static_cast<uint2*>(to), make_uint2(words[0], words[1]));
    } else {
      FVFAST_UNROLL
      for (int i = 0; i < kWords / 4; ++i) {
        __stcg(static_cast<uint4*>(to) + i,
               make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]));
      }
    }
  }
};

}  // namespace fvfast::cuda
