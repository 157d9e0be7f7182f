// Philox with vector instructions.
//
// Each 64-bit lane holds one word in its lower half. The upper half may hold anything: a product
// never reads it, so the lower word of a product needs no masking. Even and odd counters lie in
// different vectors, which hides the latency of a round, and are interleaved at the end.
#include "cpu/philox_block.h"

#if FVFAST_X86
#if defined(__GNUC__) && !defined(__clang__)
// The intrinsics of GCC 12 read an undefined vector on purpose, and warn about it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

namespace fvfast::cpu {
namespace {

constexpr int kConstantRounds = 2;  // those that PhiloxBlock has begun

// Rounds of several counters are interleaved: each is a chain of operations that wait for one
// another, and a processor looks ahead by less than one chain.

FVFAST_TARGET_AVX512 inline __m512i everywhere_512(uint64_t word) {
  return _mm512_set1_epi64(static_cast<int64_t>(word));
}

// The words of kBlocks blocks, the first of which begins with the counter `first`.
template <int kBlocks>
FVFAST_TARGET_AVX512 inline void blocks_512(const PhiloxBlock& block, uint32_t first,
                                            BlockWords* words) {
  constexpr int kXor = 0x96;  // of all three
  constexpr int kVectors = 2 * kBlocks;
  const __m512i multiplier0 = everywhere_512(kPhiloxMultiplier0);
  const __m512i multiplier1 = everywhere_512(kPhiloxMultiplier1);
  const __m512i lanes = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  __m512i word[kVectors][4];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const uint64_t counter = uint64_t{first} + static_cast<uint32_t>(v / 2 * kLanes + v % 2);
    const __m512i low =
        _mm512_mul_epu32(_mm512_add_epi64(everywhere_512(counter), lanes), multiplier0);
    const __m512i high = _mm512_srli_epi64(low, 32);
    word[v][1] =
        _mm512_mul_epu32(_mm512_xor_si512(high, everywhere_512(block.first_word2)), multiplier1);
    word[v][0] =
        _mm512_xor_si512(_mm512_srli_epi64(word[v][1], 32), everywhere_512(block.second_word0));
    word[v][2] = _mm512_xor_si512(low, everywhere_512(block.second_word2));
    word[v][3] = everywhere_512(block.second_word3);
  }
#pragma GCC unroll 10
  for (int round = kConstantRounds; round < kPhiloxRounds; ++round) {
    const __m512i key0 = everywhere_512(block.keys[round][0]);
    const __m512i key1 = everywhere_512(block.keys[round][1]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const __m512i product0 = _mm512_mul_epu32(word[v][0], multiplier0);
      const __m512i product1 = _mm512_mul_epu32(word[v][2], multiplier1);
      const __m512i high0 = _mm512_srli_epi64(product0, 32);
      const __m512i high1 = _mm512_srli_epi64(product1, 32);
      word[v][0] = _mm512_ternarylogic_epi64(high1, word[v][1], key0, kXor);
      word[v][1] = product1;
      word[v][2] = _mm512_ternarylogic_epi64(high0, word[v][3], key1, kXor);
      word[v][3] = product0;
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
      const __m512i odd = _mm512_slli_epi64(word[2 * b + 1][w], 32);
      _mm512_storeu_si512(words[b][w], _mm512_mask_blend_epi32(0xaaaa, word[2 * b][w], odd));
    }
  }
}

FVFAST_TARGET_AVX2 inline __m256i everywhere_256(uint64_t word) {
  return _mm256_set1_epi64x(static_cast<int64_t>(word));
}

// The words of a block, which begins with the counter `first`. There are not enough registers for
// all of them, and yet it is faster than one half after the other.
FVFAST_TARGET_AVX2 inline void block_256(const PhiloxBlock& block, uint32_t first,
                                         BlockWords& words) {
  constexpr int kHalf = kLanes / 2;
  constexpr int kVectors = 4;  // even and odd counters of each half
  const __m256i multiplier0 = everywhere_256(kPhiloxMultiplier0);
  const __m256i multiplier1 = everywhere_256(kPhiloxMultiplier1);
  const __m256i lanes = _mm256_setr_epi64x(0, 2, 4, 6);
  __m256i word[kVectors][4];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const uint64_t counter = uint64_t{first} + static_cast<uint32_t>(v / 2 * kHalf + v % 2);
    const __m256i low =
        _mm256_mul_epu32(_mm256_add_epi64(everywhere_256(counter), lanes), multiplier0);
    const __m256i high = _mm256_srli_epi64(low, 32);
    word[v][1] =
        _mm256_mul_epu32(_mm256_xor_si256(high, everywhere_256(block.first_word2)), multiplier1);
    word[v][0] =
        _mm256_xor_si256(_mm256_srli_epi64(word[v][1], 32), everywhere_256(block.second_word0));
    word[v][2] = _mm256_xor_si256(low, everywhere_256(block.second_word2));
    word[v][3] = everywhere_256(block.second_word3);
  }
#pragma GCC unroll 10
  for (int round = kConstantRounds; round < kPhiloxRounds; ++round) {
    const __m256i key0 = everywhere_256(block.keys[round][0]);
    const __m256i key1 = everywhere_256(block.keys[round][1]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m256i product0 = _mm256_mul_epu32(word[v][0], multiplier0);
      const __m256i product1 = _mm256_mul_epu32(word[v][2], multiplier1);
      const __m256i high0 = _mm256_srli_epi64(product0, 32);
      const __m256i high1 = _mm256_srli_epi64(product1, 32);
      word[v][0] = _mm256_xor_si256(_mm256_xor_si256(word[v][1], key0), high1);
      word[v][1] = product1;
      word[v][2] = _mm256_xor_si256(_mm256_xor_si256(word[v][3], key1), high0);
      word[v][3] = product0;
    }
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
      const __m256i odd = _mm256_slli_epi64(word[2 * half + 1][w], 32);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(words[w] + half * kHalf),
                          _mm256_blend_epi32(word[2 * half][w], odd, 0xaa));
    }
  }
}

}  // namespace

FVFAST_TARGET_AVX512 void philox_words_avx512(const PhiloxBlock& block, uint32_t first, int blocks,
                                              BlockWords* words) {
  constexpr int kTogether = 3;  // as many as there are registers for
  int b = 0;
  for (; b + kTogether <= blocks; b += kTogether, first += kTogether * kLanes) {
    blocks_512<kTogether>(block, first, words + b);
  }
  if (blocks - b == 2) blocks_512<2>(block, first, words + b);
  if (blocks - b == 1) blocks_512<1>(block, first, words + b);
}

FVFAST_TARGET_AVX2 void philox_words_avx2(const PhiloxBlock& block, uint32_t first, int blocks,
                                          BlockWords* words) {
  for (int b = 0; b < blocks; ++b, first += kLanes) block_256(block, first, words[b]);
}

}  // namespace fvfast::cpu
#endif
