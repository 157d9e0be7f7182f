// The noise of four consecutive elements, which share a counter: see NoiseParams.
#pragma once

#include <cstdint>

#include "common/normal.h"
#include "common/philox.h"
#include "cuda/launch.h"
#include "ops.h"

namespace fvfast::cuda {

// Moves four numbers by kBy places, the first to the end, if `moved`. Selects instead of a loop:
// an index that is not constant would need local memory.
template <int kBy, typename Real>
__device__ __forceinline__ void rotate(bool moved, Real (&numbers)[4]) {
  const Real before[4] = {numbers[0], numbers[1], numbers[2], numbers[3]};
  FVFAST_UNROLL
  for (int i = 0; i < 4; ++i) numbers[i] = moved ? before[(i + kBy) % 4] : before[i];
}

// What a step and an image have of their own. It may have been read from the device.
template <typename Real>
struct NoiseNumbers {
  Real std;
  Real uniform_width;
  uint32_t step;
  uint32_t identity;
};

// Of NoiseParams or CropParams.
template <typename Real, typename Params>
__device__ NoiseNumbers<Real> noise_numbers(const Params& params, uint32_t identity) {
  const double std = current_number(params.std, params.std_table, params.counter);
  const double uniform_width =
      current_number(params.uniform_width, params.uniform_width_table, params.counter);
  return {static_cast<Real>(std), static_cast<Real>(uniform_width),
          current_step(params.step, params.counter), identity};
}

// The noise of the elements of one image.
template <typename Real>
struct NoiseSource {
  Real std;
  Real uniform_width;
  uint32_t key0, key1;
  uint32_t step;
  uint32_t identity;

  __device__ NoiseSource(const NoiseNumbers<Real>& numbers, uint64_t seed)
      : std(numbers.std),
        uniform_width(numbers.uniform_width),
        key0(static_cast<uint32_t>(seed)),
        key1(static_cast<uint32_t>(seed >> 32)),
        step(numbers.step),
        identity(numbers.identity) {}

  // Whether there is any noise.
  __device__ bool any() const { return std > 0 || uniform_width > 0; }

  // The noise of the elements 4 counter, ..., 4 counter + 3. A scale of 0 costs nothing.
  __device__ void group(uint32_t counter, Real noise[4]) const {
    uint32_t words[4] = {counter, step, identity, static_cast<uint32_t>(Purpose::kNoise)};
    philox4x32(words, key0, key1);
#if defined(__CUDA_ARCH__)
    // Both parts use the words. Without this, nvcc computes them twice, once for each branch.
    asm volatile("" : "+r"(words[0]), "+r"(words[1]), "+r"(words[2]), "+r"(words[3]));
#endif
    // One register for the uniform part, while the normal part needs many.
    const uint32_t low_bits = (words[0] & 0xffu) | (words[1] & 0xffu) << 8 |
                              (words[2] & 0xffu) << 16 | (words[3] & 0xffu) << 24;
    for (int i = 0; i < 4; ++i) noise[i] = 0;
    if (std > 0) {
      for (int i = 0; i < 4; i += 2) {
        normal_pair(words[i], words[i + 1], &noise[i], &noise[i + 1]);
        noise[i] *= std;
        noise[i + 1] *= std;
      }
    }
    if (uniform_width > 0) {
      for (int i = 0; i < 4; ++i) {
        noise[i] += uniform_width * uniform_of_low_bits<Real>(low_bits >> (8 * i));
      }
    }
  }

  // Adds the noise of four elements from number `element` on, which need not be a multiple of four,
  // to values[0], values[kStride], ...
  template <int kStride>
  __device__ void add_to_four(int64_t element, Real* values) const {
    const uint32_t counter = static_cast<uint32_t>(element >> 2);
    const int skipped = static_cast<int>(element & 3);
    // One counter after the other, so that the noise of one at a time needs registers.
#pragma unroll 1
    for (int part = 0; part <= (skipped > 0 ? 1 : 0); ++part) {
      Real noise[4];
      group(counter + static_cast<uint32_t>(part), noise);
      rotate<1>((skipped & 1) != 0, noise);
      rotate<2>((skipped & 2) != 0, noise);
      FVFAST_UNROLL
      for (int i = 0; i < 4; ++i) {
        if ((i + skipped < 4) == (part == 0)) values[i * kStride] += noise[i];
      }
    }
  }
};

}  // namespace fvfast::cuda
