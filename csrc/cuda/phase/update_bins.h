// The gradient of the bins that a thread of the update takes together: complete, or finished here.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/phase/finish.h"
#include "ops.h"

namespace fvfast::cuda {

// For two blocks on a multiprocessor, each thread may have 80 registers.
constexpr int kUpdateThreads = 384;
constexpr int kInFlight = 4;
static_assert(kUpdateThreads / kWarp >= kFinishSums, "a warp for each sum");

// The number of bin i of those that a thread takes together, the first of which is `first`.
__device__ __forceinline__ int64_t bin_number(int64_t first, int i) {
  return first + i * kUpdateThreads;
}

// Shared memory of a block that finishes a gradient.
template <typename Real>
struct FinishMemory {
  double sums[kFinishSums];
  FinishFactors<Real> factors;
};

// The gradient of the bins that a thread takes together, of an image and its bins from `begin` on,
// if it has to be finished.
template <typename Real>
class FinishedBins {
 public:
  __device__ __forceinline__ FinishedBins(const UnfinishedGradient& gradient, int64_t image,
                                          int64_t begin)
      : unfinished_(gradient, image, begin),
        edges_(gradient.edges + image * gradient.sizes.rows() * 2),
        begin_(begin) {}

  __device__ __forceinline__ void read(int64_t first, int64_t end) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = bin_number(first, i);
      if (at < end) bins_[i] = unfinished_[static_cast<uint32_t>(at - begin_)];
    }
  }

  // All threads of the block call this, after the first read and before the first gradient.
  __device__ __forceinline__ void find_factors(const UnfinishedGradient& gradient, int64_t image,
                                               FinishMemory<Real>& memory) {
    cuda::find_factors(gradient, image, memory.sums, &memory.factors);
    factors_ = memory.factors;
  }

  __device__ __forceinline__ Real gradient(int i, Real phase) const {
    return bins_[i].finish(factors_, edges_, phase);
  }

 private:
  UnfinishedBins<Real> unfinished_;
  const EdgeTerm* edges_;
  int64_t begin_;
  UnfinishedBin<Real> bins_[kInFlight];
  FinishFactors<Real> factors_;
};

// The same, of a gradient that is complete, or any other array.
template <typename Real>
class CompleteBins {
 public:
  __device__ __forceinline__ explicit CompleteBins(const Real* gradient) : gradient_(gradient) {}

  __device__ __forceinline__ void read(int64_t first, int64_t end) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = bin_number(first, i);
      if (at < end) bins_[i] = gradient_[at];
    }
  }

  __device__ __forceinline__ Real value(int i) const { return bins_[i]; }
  __device__ __forceinline__ Real gradient(int i, Real) const { return bins_[i]; }

 private:
  const Real* gradient_;
  Real bins_[kInFlight];
};

}  // namespace fvfast::cuda
