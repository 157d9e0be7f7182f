// Fourier transforms in registers, of powers of two from 128 to 1024: a thread holds kPoints
// elements of a sequence, and length / kPoints threads share it.
//
// Thread t holds the elements t, t + threads, t + 2 threads, ..., before and after the transform,
// in natural order. Each stage is one butterfly of 8, or, where the length is no power of 8, at
// last some of 2 or 4. Between two stages the threads of a sequence exchange all elements through
// shared memory (Stockham's order): 512 = 8 x 8 x 8 takes two exchanges.
//
// Sources: T. Stockham, "High-speed convolution and correlation" (1966); N. Govindaraju et al.,
// "High performance discrete Fourier transforms on graphics processors" (2008).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/sincos.h"
#include "cuda/phase/butterflies.h"
#include "cuda/phase/complex.h"
#include "cuda/phase/fft.h"

namespace fvfast::cuda {

constexpr int kPoints = 8;  // of a sequence in one thread
constexpr int kShortestInRegisters = 128, kLongestInRegisters = 1024;

inline bool fits_registers(int64_t length) {
  return kShortestInRegisters <= length && length <= kLongestInRegisters &&
         (length & (length - 1)) == 0;
}

// exp(-2 pi i index / length) for a power of two, rounded once.
__device__ __forceinline__ Complex<float> twiddle_of_power(int index, int length, float) {
  const float quarters = static_cast<float>(index) * (4 / static_cast<float>(length));  // exact
  const int quarter = static_cast<int>(quarters + 0.5f);
  float sine, cosine;
  sincos_of_quarters(-quarter, static_cast<float>(quarter) - quarters, &sine, &cosine);
  return {cosine, sine};
}

__device__ __forceinline__ Complex<double> twiddle_of_power(int index, int length, double) {
  return twiddle(index, length, double());
}

// The room of `length` elements with a gap after each 8.
FVFAST_HOST_DEVICE int padded(int length) { return length + length / 8; }

// Shared memory of the transforms of one block.
template <typename Real>
struct RegisterMemory {
  Complex<Real>* values;    // padded(length) for each lane
  Complex<Real>* twiddles;  // (length,): see factors

  __device__ RegisterMemory(void* memory, int length, int lanes)
      : values(static_cast<Complex<Real>*>(memory)), twiddles(values + padded(length) * lanes) {}

  static size_t bytes(int64_t length, int64_t lanes) {
    const int64_t numbers = padded(static_cast<int>(length)) * lanes + length;
    return static_cast<size_t>(numbers) * sizeof(Complex<Real>);
  }

  // The factors of the butterfly `offset` of a stage: that of its element k is factors[k * span].
  // Neighboring butterflies have neighboring factors. The stages follow each other: that of `span`
  // begins behind the span - 8 factors of those before, which the first element, k = 0, would need
  // room for.
  __device__ __forceinline__ const Complex<Real>* factors(int offset) const {
    return twiddles + offset - 8;
  }

  // Fills the table. A barrier must follow before a transform's second stage: each exchange has
  // one.
  __device__ void prepare(int length) const {
    for (int i = static_cast<int>(threadIdx.x) + 8; i < length; i += static_cast<int>(blockDim.x)) {
      const int span = i < 64 ? 8 : (i < 512 ? 64 : 512);
      const int k = i / span, offset = i & (span - 1);
      const int whole = span * 8 < length ? span * 8 : length;
      twiddles[i - 8] = twiddle_of_power(k * offset, whole, Real());
    }
  }
};

// Elements that lie `step` apart.
struct Places {
  int first, step;
};

// Where elements lie in an exchange: with `size` numbers of room after each 2^every, which keeps
// the threads of a half warp out of each other's banks.
struct Gaps {
  int every, size;

  __device__ __forceinline__ int operator()(int index) const {
    return index + (index >> every) * size;
  }
};

// Where the elements of a thread's sequence lie, if threads that follow each other take the same
// element of neighboring sequences.
struct AcrossLanes {
  int lanes, lane;

  // The elements first + k * stride in the exchange behind a stage.
  __device__ __forceinline__ Places places(int first, int stride, int, int) const {
    return {plain(first), padded(stride) * lanes};
  }
  // Elsewhere.
  __device__ __forceinline__ int plain(int index) const { return padded(index) * lanes + lane; }
};

// The same, if they take elements of the same sequence that follow each other.
struct AlongLane {
  int start;  // of the sequence

  // In the first exchange a half warp writes elements that lie 8 apart, and in the next one two
  // runs of 8 that lie 64 apart; it reads 16 neighbors.
  __device__ __forceinline__ Places places(int first, int stride, int span, int threads) const {
    const Gaps gaps = span == 1 ? Gaps{4, 1} : (threads < 64 ? Gaps{3, 1} : Gaps{6, 8});
    return {start + gaps(first), gaps(stride)};
  }
  __device__ __forceinline__ int plain(int index) const { return start + index; }
};

// The butterflies of one stage: `span` is the product of the radices before.
template <int R, bool kInverse, typename Real>
__device__ __forceinline__ void register_stage(Complex<Real> (&points)[kPoints],
                                               const RegisterMemory<Real>& memory, int threads,
                                               int span, int thread) {
  constexpr int kButterflies = kPoints / R;
#pragma unroll
  for (int i = 0; i < kButterflies; ++i) {
    Complex<Real> values[R];
#pragma unroll
    for (int k = 0; k < R; ++k) values[k] = points[i + k * kButterflies];
    if (span > 1) {
      const Complex<Real>* factors = memory.factors((thread + i * threads) & (span - 1));
#pragma unroll
      for (int k = 1; k < R; ++k) {
        const Complex<Real> factor = factors[k * span];
        values[k] = values[k] * (kInverse ? conjugate(factor) : factor);
      }
    }
    Butterfly<R, kInverse, Real>::run(values);
#pragma unroll
    for (int k = 0; k < R; ++k) points[i + k * kButterflies] = values[k];
  }
}

// Transforms the sequence whose elements the threads hold, unnormalized. `thread` counts within the
// sequence. All threads of the block take part in the barriers; those without a sequence are not
// `active`. Between any other use of the memory and the transform there must be a barrier.
template <bool kInverse, typename Real, typename Place>
__device__ __forceinline__ void register_transform(Complex<Real> (&points)[kPoints],
                                                   const RegisterMemory<Real>& memory,
                                                   const Place& place, int length, int thread,
                                                   bool active = true) {
  const int threads = length / kPoints;
  for (int span = 1;; span *= 8) {
    if (span * 8 <= length) {
      register_stage<8, kInverse>(points, memory, threads, span, thread);
    } else if (span * 4 == length) {
      register_stage<4, kInverse>(points, memory, threads, span, thread);
    } else {
      register_stage<2, kInverse>(points, memory, threads, span, thread);
    }
    if (span * 8 >= length) return;
    const int offset = thread & (span - 1);
    const Places out = place.places((thread - offset) * 8 + offset, span, span, threads);
    const Places in = place.places(thread, threads, span, threads);
    if (span > 1) __syncthreads();  // the last exchange has been read
    if (active) {
#pragma unroll
      for (int k = 0; k < kPoints; ++k) memory.values[out.first + k * out.step] = points[k];
    }
    __syncthreads();
    if (active) {
#pragma unroll
      for (int k = 0; k < kPoints; ++k) points[k] = memory.values[in.first + k * in.step];
    }
  }
}

}  // namespace fvfast::cuda
