// Philox for blocks of kLanes consecutive counters.
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

// What counters share that differ in their first word alone.
//
// Words that are the same in all counters need no vectors: the first two rounds multiply one such
// word each. These are computed once, here, up to what the second round leaves of them.
struct PhiloxBlock {
  uint32_t seed[2];
  uint32_t step;
  uint32_t identity;
  uint32_t purpose;
  uint64_t keys[kPhiloxRounds][2];                    // of each round
  uint64_t first_word2;                               // after the first round, without the product
  uint64_t second_word0, second_word2, second_word3;  // after the second round

  PhiloxBlock(uint64_t seed_, uint32_t step_, uint32_t identity_, Purpose purpose_)
      : seed{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)},
        step(step_),
        identity(identity_),
        purpose(static_cast<uint32_t>(purpose_)) {
    for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
      keys[round][0] = seed[0] + round * kPhiloxKeyStep0;
      keys[round][1] = seed[1] + round * kPhiloxKeyStep1;
    }
    const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * identity;
    const uint32_t word0 = static_cast<uint32_t>(product1 >> 32 ^ step ^ keys[0][0]);
    const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * word0;
    first_word2 = purpose ^ keys[0][1];
    second_word0 = static_cast<uint32_t>(product1) ^ keys[1][0];
    second_word2 = product0 >> 32 ^ keys[1][1];
    second_word3 = static_cast<uint32_t>(product0);
  }
};

// Written with vector instructions, because compilers miss the one that matters: they multiply all
// 64 bits of a lane where the product of the lower halves is wanted, at three times the cost.
void philox_words_avx2(const PhiloxBlock& block, uint32_t first, int blocks, BlockWords* words);
void philox_words_avx512(const PhiloxBlock& block, uint32_t first, int blocks, BlockWords* words);

// The words of the counters first, first + 1, ..., first + blocks * kLanes - 1.
template <SimdLevel level>
FVFAST_HOST_DEVICE void philox_words(const PhiloxBlock& block, uint32_t first, int blocks,
                                     BlockWords* words) {
  if constexpr (level == SimdLevel::kAvx512) {
    philox_words_avx512(block, first, blocks, words);
  } else if constexpr (level == SimdLevel::kAvx2) {
    philox_words_avx2(block, first, blocks, words);
  } else {
    for (int b = 0; b < blocks; ++b, first += kLanes) {
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        uint32_t counter[4] = {first + lane, block.step, block.identity, block.purpose};
        philox4x32(counter, block.seed[0], block.seed[1]);
        for (int word = 0; word < 4; ++word) words[b][word][lane] = counter[word];
      }
    }
  }
}

}  // namespace fvfast::cpu
