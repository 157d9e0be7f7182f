// The noise of four consecutive elements, which share a counter: see NoiseParams.
#pragma once

#include <cstdint>

#include "common/normal.h"
#include "common/philox.h"
#include "ops.h"

namespace fvfast::cuda {

// What the elements of one image share.
template <typename Real>
struct NoiseSource {
  Real std;
  Real uniform_width;
  uint32_t key0, key1;
  uint32_t step;
  uint32_t identity;

  __device__ NoiseSource(double std_, double uniform_width_, uint64_t seed, uint32_t step_,
                         uint32_t identity_)
      : std(static_cast<Real>(std_)),
        uniform_width(static_cast<Real>(uniform_width_)),
        key0(static_cast<uint32_t>(seed)),
        key1(static_cast<uint32_t>(seed >> 32)),
        step(step_),
        identity(identity_) {}

  // Whether there is any noise.
  __device__ bool any() const { return std > 0 || uniform_width > 0; }

  // The noise of the elements 4 counter, ..., 4 counter + 3. A scale of 0 costs nothing.
  __device__ void group(uint32_t counter, Real noise[4]) const {
    uint32_t words[4] = {counter, step, identity, static_cast<uint32_t>(Purpose::kNoise)};
    philox4x32(words, key0, key1);
    // A pair after the other: words that are done with free their registers.
    FVFAST_UNROLL
    for (int i = 0; i < 4; i += 2) {
      noise[i] = 0;
      noise[i + 1] = 0;
      if (uniform_width > 0) {
        noise[i] = uniform_width * uniform_of_low_bits<Real>(words[i]);
        noise[i + 1] = uniform_width * uniform_of_low_bits<Real>(words[i + 1]);
      }
      if (std > 0) {
        Real square, cosine, sine;
        squared_radius(words[i], &square);
        normal_direction(words[i + 1], &cosine, &sine);
        const Real radius = std * std::sqrt(square);
        noise[i] += radius * cosine;
        noise[i + 1] += radius * sine;
      }
    }
  }

  // The noise of four elements from number `element` on, which need not be a multiple of four.
  __device__ void four(int64_t element, Real noise[4]) const {
    const uint32_t counter = static_cast<uint32_t>(element >> 2);
    const int skipped = static_cast<int>(element & 3);
    group(counter, noise);
    if (skipped == 0) return;
    Real next[4];
    group(counter + 1, next);
    // Moves by one element at a time: an index that is not constant would need local memory.
    FVFAST_UNROLL
    for (int moved = 0; moved < 3; ++moved) {
      if (moved >= skipped) break;
      for (int i = 0; i < 3; ++i) noise[i] = noise[i + 1];
      noise[3] = next[0];
      for (int i = 0; i < 3; ++i) next[i] = next[i + 1];
    }
  }
};

}  // namespace fvfast::cuda
