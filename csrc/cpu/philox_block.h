// Philox for kLanes consecutive counters at once: the part of a random kernel that costs most.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "common/philox.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {

constexpr int kLanes = 16;  // counters of one block

// One array for each of the four words of a counter.
using BlockWords = uint32_t[4][kLanes];

// What the counters of a block share.
struct PhiloxBlock {
  uint32_t step;
  uint32_t identity;
  uint64_t keys[kPhiloxRounds][2];  // of each round

  PhiloxBlock(uint64_t seed, uint32_t step_, uint32_t identity_)
      : step(step_), identity(identity_) {
    for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
      keys[round][0] = static_cast<uint32_t>(seed) + round * kPhiloxKeyStep0;
      keys[round][1] = static_cast<uint32_t>(seed >> 32) + round * kPhiloxKeyStep1;
    }
  }
};

// Written with vector instructions, because compilers miss the one that matters: they multiply all
// 64 bits of a lane where the product of the lower halves is wanted, at three times the cost.
void philox_words_avx2(const PhiloxBlock& block, Purpose purpose, uint32_t first,
                       BlockWords& words);
void philox_words_avx512(const PhiloxBlock& block, Purpose purpose, uint32_t first,
                         BlockWords& words);

// The words of the counters first, first + 1, ..., first + kLanes - 1.
template <SimdLevel level>
FVFAST_HOST_DEVICE void philox_words(const PhiloxBlock& block, Purpose purpose, uint32_t first,
                                     BlockWords& words) {
  if constexpr (level == SimdLevel::kAvx512) {
    philox_words_avx512(block, purpose, first, words);
  } else if constexpr (level == SimdLevel::kAvx2) {
    philox_words_avx2(block, purpose, first, words);
  } else {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      uint32_t counter[4] = {first + lane, block.step, block.identity,
                             static_cast<uint32_t>(purpose)};
      philox4x32(counter, static_cast<uint32_t>(block.keys[0][0]),
                 static_cast<uint32_t>(block.keys[0][1]));
      for (int word = 0; word < 4; ++word) words[word][lane] = counter[word];
    }
  }
}

}  // namespace fvfast::cpu
