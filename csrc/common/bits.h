// Numbers as their bits, and back.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/macros.h"

namespace fvfast {

FVFAST_HOST_DEVICE int32_t bits_of(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

FVFAST_HOST_DEVICE float float_of(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

FVFAST_HOST_DEVICE int64_t bits_of(double value) {
  int64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

FVFAST_HOST_DEVICE double double_of(int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace fvfast
