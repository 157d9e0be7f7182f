// How an element lies in memory, and how it enters and leaves arithmetic.
//
// Every conversion rounds to nearest, ties to even, keeps infinities and NaN, and has no branches.
#pragma once

#include <cstdint>

#include "common/bits.h"
#include "common/macros.h"

namespace fvfast {

struct Float32 {
  using Storage = float;
  using Real = float;
  static FVFAST_HOST_DEVICE Real load(Storage value) { return value; }
  static FVFAST_HOST_DEVICE Storage store(Real value) { return value; }
};

struct Float64 {
  using Storage = double;
  using Real = double;
  static FVFAST_HOST_DEVICE Real load(Storage value) { return value; }
  static FVFAST_HOST_DEVICE Storage store(Real value) { return value; }
};

// The upper half of a float32.
struct BFloat16 {
  using Storage = uint16_t;
  using Real = float;

  static FVFAST_HOST_DEVICE Real load(Storage value) {
    return float_of(static_cast<int32_t>(uint32_t{value} << 16));
  }

  static FVFAST_HOST_DEVICE Storage store(Real value) {
    const uint32_t bits = static_cast<uint32_t>(bits_of(value));
    // Adds just under half of the last kept bit, or exactly half where that bit is odd.
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return static_cast<Storage>(is_nan ? 0x7fc0u : rounded);
  }
};

// IEEE binary16: 5 bits of exponent with bias 15, 10 of mantissa.
struct Float16 {
  using Storage = uint16_t;
  using Real = float;

  static FVFAST_HOST_DEVICE Real load(Storage value) {
    const uint32_t magnitude = value & 0x7fffu;
    const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
    // Moves the exponent from bias 15 to bias 127; infinities and NaN need the largest one.
    const uint32_t bias = magnitude >= 0x7c00u ? 224u << 23 : 112u << 23;
    const uint32_t normal = (magnitude << 13) + bias;
    // Below 2^-14 the value is the mantissa times 2^-24.
    const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
    const uint32_t bits = magnitude < 0x0400u ? static_cast<uint32_t>(bits_of(subnormal)) : normal;
    return float_of(static_cast<int32_t>(bits | sign));
  }

  static FVFAST_HOST_DEVICE Storage store(Real value) {
    const uint32_t bits = static_cast<uint32_t>(bits_of(value));
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t sign = (bits >> 16) & 0x8000u;
    // As for bfloat16, after moving the exponent; a carry out of 65504 arrives at infinity.
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // The last bit of a number in [0.5, 1) is 2^-24, as is that of a subnormal half: adding 0.5
    // lets the floating-point unit do the rounding.
    const float shifted = float_of(static_cast<int32_t>(magnitude)) + 0.5f;
    const uint32_t subnormal = static_cast<uint32_t>(bits_of(shifted)) - 0x3f000000u;
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x47800000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    return static_cast<Storage>(result | sign);
  }
};

}  // namespace fvfast
