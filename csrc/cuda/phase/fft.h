// Fourier transforms in shared memory, of any length 2^a 3^b 5^c 7^d up to kMaxTransform.
//
// A block transforms several sequences side by side, its lanes: consecutive threads take the same
// element of consecutive lanes, so that a warp reads consecutive addresses whatever the stride of a
// butterfly. The transform works in place (decimation in time): it wants its input in
// digit-reversed order, which the loading takes care of, and leaves its output in natural order.
// Each stage touches every element once and ends with a barrier; the first needs no twiddles.
//
// Sources: J. Cooley, J. Tukey, "An algorithm for the machine calculation of complex Fourier
// series" (1965); C. Van Loan, "Computational frameworks for the fast Fourier transform" (1992).
#pragma once

#include <cstdint>

#include "common/sincos.h"
#include "cuda/phase/butterflies.h"
#include "cuda/phase/complex.h"

namespace fvfast::cuda {

constexpr int kMaxTransform = 4096;
constexpr int kMaxStages = 8;  // the most that a length has: 2 * 3^6

// How a length splits into butterflies. `reciprocal` divides by the span of a stage.
struct TransformPlan {
  int length;
  int stages;
  int radix[kMaxStages];
  uint32_t reciprocal[kMaxStages];  // ceil(2^32 / product of the radices before)
  uint32_t skew;                    // ceil(2^32 / (length / the last radix)): see Skewed
};

// Returns false where a length has no plan.
inline bool make_plan(int64_t length, TransformPlan* plan) {
  if (length < 1 || length > kMaxTransform) return false;
  *plan = {};
  plan->length = static_cast<int>(length);
  int rest = plan->length;
  // Odd radices first: the long stages at the end are then eights.
  int eights = 0;
  while (rest % 8 == 0) {
    rest /= 8;
    ++eights;
  }
  for (const int radix : {7, 5, 3, 4, 2}) {
    while (rest % radix == 0) {
      plan->radix[plan->stages++] = radix;
      rest /= radix;
    }
  }
  if (rest != 1) return false;
  for (; eights > 0; --eights) plan->radix[plan->stages++] = 8;
  const auto reciprocal = [](int divisor) {
    return static_cast<uint32_t>(((uint64_t{1} << 32) + static_cast<uint64_t>(divisor) - 1) /
                                 static_cast<uint64_t>(divisor));
  };
  int span = 1;
  for (int stage = 0; stage < plan->stages; ++stage) {
    plan->reciprocal[stage] = span == 1 ? 0 : reciprocal(span);
    span *= plan->radix[stage];
  }
  if (plan->stages > 0) {
    const int block = plan->length / plan->radix[plan->stages - 1];
    plan->skew = block == 1 ? 0 : reciprocal(block);
  }
  return true;
}

// number / divisor for numbers below 2^12; a reciprocal of 0 stands for a divisor of 1.
__device__ __forceinline__ uint32_t divided(uint32_t number, uint32_t reciprocal) {
  return reciprocal == 0 ? number : __umulhi(number, reciprocal);
}

// Where element `index` of a lane lies.
struct Plain {
  int lanes;

  __device__ __forceinline__ int operator()(int index, int lane) const {
    return index * lanes + lane;
  }
};

// The same, with the lanes of an element rotated. Threads that take consecutive elements of one
// lane would all meet in the same bank; rotating by the element's number spreads them out. Elements
// that are neighbors before the digit reversal lie length / (last radix) apart, hence the second
// term. The number of lanes is a power of two.
struct Skewed {
  int lanes;
  uint32_t skew;

  __device__ __forceinline__ int operator()(int index, int lane) const {
    const int turn = index + static_cast<int>(divided(static_cast<uint32_t>(index), skew));
    return index * lanes + ((lane + turn) & (lanes - 1));
  }
};

// exp(-2 pi i index / length), rounded once.
__device__ inline Complex<float> twiddle(int index, int length, float) {
  float rest, sine, cosine;
  const int quarter = split_quarters(-4.0 * index / length, &rest);
  sincos_of_quarters(quarter, rest, &sine, &cosine);
  return {cosine, sine};
}

__device__ inline Complex<double> twiddle(int index, int length, double) {
  double sine, cosine;
  sincospi(-2.0 * index / length, &sine, &cosine);
  return {cosine, sine};
}

// Shared memory of the transforms of one block.
template <typename Real>
struct TransformMemory {
  Complex<Real>* values;    // (length, lanes)
  Complex<Real>* twiddles;  // (length,)
  uint16_t* places;         // (length,): where each element of the input goes

  __device__ TransformMemory(void* memory, int length, int lanes)
      : values(static_cast<Complex<Real>*>(memory)),
        twiddles(values + length * lanes),
        places(reinterpret_cast<uint16_t*>(twiddles + length)) {}

  static size_t bytes(int64_t length, int64_t lanes) {
    return static_cast<size_t>(length) *
           ((static_cast<size_t>(lanes) + 1) * sizeof(Complex<Real>) + sizeof(uint16_t));
  }

  // Fills the tables. A barrier must follow.
  __device__ void prepare(const TransformPlan& plan) const {
    for (int i = static_cast<int>(threadIdx.x); i < plan.length;
         i += static_cast<int>(blockDim.x)) {
      twiddles[i] = twiddle(i, plan.length, Real());
      int place = 0, span = plan.length;
      uint32_t rest = static_cast<uint32_t>(i);
      for (int stage = plan.stages - 1; stage >= 0; --stage) {
        const uint32_t radix = static_cast<uint32_t>(plan.radix[stage]);
        span /= plan.radix[stage];
        place += static_cast<int>(rest % radix) * span;
        rest /= radix;
      }
      places[i] = static_cast<uint16_t>(place);
    }
  }
};

// One stage: `span` is the product of the radices before.
template <int R, bool kInverse, typename Real, typename Layout>
__device__ __forceinline__ void transform_stage(const TransformMemory<Real>& memory,
                                                const Layout& layout, int length, int span,
                                                uint32_t reciprocal) {
  const int lane = static_cast<int>(threadIdx.x) & (layout.lanes - 1);
  const int first = static_cast<int>(threadIdx.x) / layout.lanes;
  const int stride = static_cast<int>(blockDim.x) / layout.lanes;
  const int step = length / (span * R);  // of the twiddles
  for (int butterfly = first; butterfly < length / R; butterfly += stride) {
    const int block = static_cast<int>(divided(static_cast<uint32_t>(butterfly), reciprocal));
    const int offset = butterfly - block * span;
    const int base = block * span * R + offset;
    Complex<Real> values[R];
#pragma unroll
    for (int k = 0; k < R; ++k) values[k] = memory.values[layout(base + k * span, lane)];
    if (offset != 0) {
#pragma unroll
      for (int k = 1; k < R; ++k) {
        const Complex<Real> factor = memory.twiddles[offset * k * step];
        values[k] = values[k] * (kInverse ? conjugate(factor) : factor);
      }
    }
    Butterfly<R, kInverse, Real>::run(values);
#pragma unroll
    for (int k = 0; k < R; ++k) memory.values[layout(base + k * span, lane)] = values[k];
  }
}

// Transforms all lanes, unnormalized. Begins with a barrier, which makes the loaded values and the
// tables visible, and ends with one. The number of threads is a multiple of that of lanes, which is
// a power of two.
template <bool kInverse, typename Real, typename Layout>
__device__ void transform(const TransformMemory<Real>& memory, const Layout& layout,
                          const TransformPlan& plan) {
  __syncthreads();
  int span = 1;
  for (int stage = 0; stage < plan.stages; ++stage) {
    const uint32_t reciprocal = plan.reciprocal[stage];
    switch (plan.radix[stage]) {
      case 2:
        transform_stage<2, kInverse>(memory, layout, plan.length, span, reciprocal);
        break;
      case 3:
        transform_stage<3, kInverse>(memory, layout, plan.length, span, reciprocal);
        break;
      case 4:
        transform_stage<4, kInverse>(memory, layout, plan.length, span, reciprocal);
        break;
      case 5:
        transform_stage<5, kInverse>(memory, layout, plan.length, span, reciprocal);
        break;
      case 7:
        transform_stage<7, kInverse>(memory, layout, plan.length, span, reciprocal);
        break;
      default:
        transform_stage<8, kInverse>(memory, layout, plan.length, span, reciprocal);
        break;
    }
    span *= plan.radix[stage];
    __syncthreads();
  }
}

}  // namespace fvfast::cuda
