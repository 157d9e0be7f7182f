// Division of whole numbers.
#pragma once

#include <cstdint>

#include "common/macros.h"

namespace fvfast {

// number / divisor, rounded up; neither is negative.
FVFAST_HOST_DEVICE int64_t divided_up(int64_t number, int64_t divisor) {
  return (number + divisor - 1) / divisor;
}

}  // namespace fvfast
