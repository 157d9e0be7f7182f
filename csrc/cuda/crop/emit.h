// From values in registers to the crop in memory.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "cuda/launch.h"
#include "cuda/packs.h"
#include "cuda/thread.h"

namespace fvfast::cuda {

// Where a unit of 16 bytes of a lane lies in the buffer of its warp. The units are permuted so that
// eight lanes that write at once meet different banks, where their number is a power of two; others
// lie in order.
template <int kUnits>
__device__ int swizzled(int lane, int unit) {
  if constexpr (kUnits == 2 || kUnits == 4 || kUnits == 8) {
    return kUnits * lane + (unit ^ (lane / (8 / kUnits) & (kUnits - 1)));
  } else {
    return kUnits * lane + unit;
  }
}

// Units of 16 bytes that a lane's `count` elements fill; 0 where they do not fill one.
template <typename Element, int count>
constexpr int kUnitsOfLane = count * static_cast<int>(sizeof(typename Element::Storage)) % 16 == 0
                                 ? count * static_cast<int>(sizeof(typename Element::Storage)) / 16
                                 : 0;

// Puts the elements of a lane into the buffer of its warp.
template <typename Element, int count, typename Real>
__device__ __forceinline__ void put_into_buffer(const ThreadPlace& thread,
                                                const Real (&values)[count], void* buffer) {
  constexpr int kWords = count * static_cast<int>(sizeof(typename Element::Storage)) / 4;
  constexpr int kUnits = kUnitsOfLane<Element, count>;
  uint32_t words[kWords];
  pack<Element>(values, words);
  if constexpr (kUnits > 0) {
    FVFAST_UNROLL
    for (int i = 0; i < kUnits; ++i) {
      static_cast<uint4*>(buffer)[swizzled<kUnits>(thread.lane, i)] =
          make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
    }
  } else {
    FVFAST_UNROLL
    for (int i = 0; i < kWords / 2; ++i) {
      static_cast<uint2*>(buffer)[kWords / 2 * thread.lane + i] =
          make_uint2(words[2 * i], words[2 * i + 1]);
    }
  }
}

// Writes the elements [first, last) of a warp's `kCount` from its buffer.
template <typename Element, int kUnits, int kCount>
__device__ void write_out(const ThreadPlace& thread, const uint4* buffer,
                          typename Element::Storage* out, int first, int last) {
  using Storage = typename Element::Storage;
  constexpr int kPerPack = kPack<Element>;
  constexpr int kPacks = kCount / kPerPack;
  const auto place = [](int pack) {
    return kUnits > 1 ? swizzled<kUnits>(pack / max(kUnits, 1), pack % max(kUnits, 1)) : pack;
  };
  const bool aligned = is_aligned_to<16>(out);
  if (aligned && first == 0 && last == kCount) {
    FVFAST_UNROLL
    for (int i = 0; i < (kPacks + kWarp - 1) / kWarp; ++i) {
      const int at = i * kWarp + thread.lane;
      if (kPacks % kWarp == 0 || at < kPacks) {
        reinterpret_cast<uint4*>(out)[at] = buffer[place(at)];
      }
    }
    return;
  }
  const Storage* elements = reinterpret_cast<const Storage*>(buffer);
  for (int at = aligned ? thread.lane * kPerPack : thread.lane; at < last;
       at += aligned ? kWarp * kPerPack : kWarp) {
    const int from = place(at / kPerPack);
    if (aligned && at >= first && at + kPerPack <= last) {
      reinterpret_cast<uint4*>(out)[at / kPerPack] = buffer[from];
      continue;
    }
    for (int i = at; i < min(last, at + (aligned ? kPerPack : 1)); ++i) {
      if (i >= first) out[i] = elements[from * kPerPack + i % kPerPack];
    }
  }
}

}  // namespace fvfast::cuda
