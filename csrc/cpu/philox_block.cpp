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

#include <initializer_list>

namespace fvfast::cpu {

FVFAST_TARGET_AVX512 void philox_words_avx512(const PhiloxBlock& block, Purpose purpose,
                                              uint32_t first, BlockWords& words) {
  const __m512i multiplier0 = _mm512_set1_epi64(kPhiloxMultiplier0);
  const __m512i multiplier1 = _mm512_set1_epi64(kPhiloxMultiplier1);
  const __m512i even =
      _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14));
  __m512i counter[2][4];
  for (int odd = 0; odd < 2; ++odd) {
    counter[odd][0] = _mm512_add_epi64(even, _mm512_set1_epi64(odd));
    counter[odd][1] = _mm512_set1_epi64(block.step);
    counter[odd][2] = _mm512_set1_epi64(block.identity);
    counter[odd][3] = _mm512_set1_epi64(static_cast<uint32_t>(purpose));
  }
#pragma GCC unroll 10
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const __m512i key0 = _mm512_set1_epi64(static_cast<int64_t>(block.keys[round][0]));
    const __m512i key1 = _mm512_set1_epi64(static_cast<int64_t>(block.keys[round][1]));
    for (__m512i* word : {counter[0], counter[1]}) {
      const __m512i product0 = _mm512_mul_epu32(word[0], multiplier0);
      const __m512i product1 = _mm512_mul_epu32(word[2], multiplier1);
      // 0x96 is the exclusive or of all three.
      word[0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product1, 32), word[1], key0, 0x96);
      word[1] = product1;
      word[2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(product0, 32), word[3], key1, 0x96);
      word[3] = product0;
    }
  }
  for (int word = 0; word < 4; ++word) {
    const __m512i odd = _mm512_slli_epi64(counter[1][word], 32);
    _mm512_storeu_si512(words[word], _mm512_mask_blend_epi32(0xaaaa, counter[0][word], odd));
  }
}

FVFAST_TARGET_AVX2 void philox_words_avx2(const PhiloxBlock& block, Purpose purpose, uint32_t first,
                                          BlockWords& words) {
  constexpr int kHalf = kLanes / 2;  // two vectors of four lanes hold half of the counters
  const __m256i multiplier0 = _mm256_set1_epi64x(kPhiloxMultiplier0);
  const __m256i multiplier1 = _mm256_set1_epi64x(kPhiloxMultiplier1);
  for (int start = 0; start < kLanes; start += kHalf) {
    const __m256i even = _mm256_add_epi64(_mm256_set1_epi64x(int64_t{first} + start),
                                          _mm256_setr_epi64x(0, 2, 4, 6));
    __m256i counter[2][4];
    for (int odd = 0; odd < 2; ++odd) {
      counter[odd][0] = _mm256_add_epi64(even, _mm256_set1_epi64x(odd));
      counter[odd][1] = _mm256_set1_epi64x(block.step);
      counter[odd][2] = _mm256_set1_epi64x(block.identity);
      counter[odd][3] = _mm256_set1_epi64x(static_cast<uint32_t>(purpose));
    }
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
      const __m256i key0 = _mm256_set1_epi64x(static_cast<int64_t>(block.keys[round][0]));
      const __m256i key1 = _mm256_set1_epi64x(static_cast<int64_t>(block.keys[round][1]));
      for (__m256i* word : {counter[0], counter[1]}) {
        const __m256i product0 = _mm256_mul_epu32(word[0], multiplier0);
        const __m256i product1 = _mm256_mul_epu32(word[2], multiplier1);
        const __m256i high0 = _mm256_srli_epi64(product0, 32);
        const __m256i high1 = _mm256_srli_epi64(product1, 32);
        word[0] = _mm256_xor_si256(_mm256_xor_si256(word[1], key0), high1);
        word[1] = product1;
        word[2] = _mm256_xor_si256(_mm256_xor_si256(word[3], key1), high0);
        word[3] = product0;
      }
    }
    for (int word = 0; word < 4; ++word) {
      const __m256i odd = _mm256_slli_epi64(counter[1][word], 32);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(&words[word][start]),
                          _mm256_blend_epi32(counter[0][word], odd, 0xaa));
    }
  }
}

}  // namespace fvfast::cpu
#endif
