// Writes a box to global memory.
#pragma once

#include <cstdint>

#include "cuda/launch.h"

namespace fvfast::cuda {

// At once, where the address allows it.
__device__ __forceinline__ void store_box(const float (&box)[4], float* out) {
  if (reinterpret_cast<uintptr_t>(out) % sizeof(float4) == 0) {
    *reinterpret_cast<float4*>(out) = make_float4(box[0], box[1], box[2], box[3]);
  } else {
    for (int i = 0; i < 4; ++i) out[i] = box[i];
  }
}

}  // namespace fvfast::cuda
