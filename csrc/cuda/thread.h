// Where a thread is in its block.
#pragma once

#include "cuda/launch.h"

namespace fvfast::cuda {

// Of a block of one dimension. Made once in a kernel and handed to its steps.
struct ThreadPlace {
  int index;  // in the block
  int lane;   // in the warp
  int warp;   // in the block

  __device__ __forceinline__ ThreadPlace()
      : index(static_cast<int>(threadIdx.x)), lane(index % kWarp), warp(index / kWarp) {}
};

}  // namespace fvfast::cuda
