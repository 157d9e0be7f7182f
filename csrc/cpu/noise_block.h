// The noise of consecutive elements, a block at a time: what costs most in every op that adds
// noise.
#pragma once

#include <cstdint>

#include "common/normal.h"
#include "cpu/philox_block.h"
#include "cpu/simd.h"

namespace fvfast::cpu {

constexpr int kBlock = 4 * kLanes;  // elements of one block

// The noise of kBlock consecutive elements.
template <typename Real, SimdLevel level>
FVFAST_HOST_DEVICE void block_noise(const PhiloxBlock& philox, uint32_t first_counter, Real std,
                                    Real uniform_width, Real noise[kBlock]) {
  alignas(64) BlockWords normal, uniform;
  philox_words<level>(philox, Purpose::kNormalNoise, first_counter, normal);
  philox_words<level>(philox, Purpose::kUniformNoise, first_counter, uniform);
  for (int lane = 0; lane < kLanes; ++lane) {
    Real normals[4];
    normal_pair(normal[0][lane], normal[1][lane], &normals[0], &normals[1]);
    normal_pair(normal[2][lane], normal[3][lane], &normals[2], &normals[3]);
    for (int word = 0; word < 4; ++word) {
      const Real centered = to_uniform<Real>(uniform[word][lane]) - Real(0.5);
      noise[4 * lane + word] = std * normals[word] + uniform_width * centered;
    }
  }
}

// The noise of `count` elements from number `element` on, in whole blocks. Returns where it starts:
// the counter of the first element may hold numbers of up to three elements before it, so `noise`
// needs room for count + 3 numbers, rounded up to whole blocks.
template <typename Real, SimdLevel level>
FVFAST_HOST_DEVICE const Real* fill_noise(const PhiloxBlock& philox, int64_t element, int64_t count,
                                          Real std, Real uniform_width, Real* noise) {
  const int64_t skipped = element % 4;
  uint32_t counter = static_cast<uint32_t>(element / 4);
  for (int64_t i = 0; i < skipped + count; i += kBlock, counter += kLanes) {
    block_noise<Real, level>(philox, counter, std, uniform_width, noise + i);
  }
  return noise + skipped;
}

}  // namespace fvfast::cpu
