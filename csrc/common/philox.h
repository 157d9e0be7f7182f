// Counter-based random numbers: Philox4x32-10.
//
// Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3"
// (SC 2011). The counter of four consecutive elements is (element / 4, step, identity, purpose) and
// the key is the seed, on every device: see fvfast/ops/philox.py.
#pragma once

#include <cstdint>

#include "common/bits.h"
#include "common/macros.h"

namespace fvfast {

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u, kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxKeyStep0 = 0x9E3779B9u, kPhiloxKeyStep1 = 0xBB67AE85u;

// Replaces the counter by four random words.
FVFAST_HOST_DEVICE void philox4x32(uint32_t counter[4], uint32_t key0, uint32_t key1) {
  FVFAST_UNROLL
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * counter[2];
    counter[0] = static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
    counter[1] = static_cast<uint32_t>(product1);
    counter[2] = static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
    counter[3] = static_cast<uint32_t>(product0);
    key0 += kPhiloxKeyStep0;
    key1 += kPhiloxKeyStep1;
  }
}

// A number in [0, 1) from the upper 24 bits of a word: exact in float and in double.
template <typename Real>
FVFAST_HOST_DEVICE Real to_uniform(uint32_t word) {
  // A signed integer, because vector units convert those fastest.
  return static_cast<Real>(static_cast<int32_t>(word >> 8)) * Real(0x1p-24);
}

// One of the 256 numbers -127.5 / 256, -126.5 / 256, ..., 127.5 / 256, from the lower 8 bits of a
// word, which to_uniform() leaves: their mean is 0, their variance (1 - 2^-16) / 12.
template <typename Real>
FVFAST_HOST_DEVICE Real uniform_of_low_bits(uint32_t word) {
  return static_cast<Real>(static_cast<int32_t>(word & 0xffu)) * Real(0x1p-8) - Real(0x1.fep-2);
}

template <>
FVFAST_HOST_DEVICE float uniform_of_low_bits<float>(uint32_t word) {
  // As the upper bits of a number in [1, 2): conversions of integers are slow on GPUs.
  return float_of(static_cast<int32_t>(0x3f800000u | (word & 0xffu) << 15)) - 0x1.7f8p+0f;
}

}  // namespace fvfast
