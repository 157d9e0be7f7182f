// Limits of an activation.
#pragma once

#include "common/macros.h"

namespace fvfast {

// Comparisons with NaN are false, so that NaN stays NaN, as in torch's relu and clamp.
template <typename Real>
FVFAST_HOST_DEVICE Real clamped(Real value, Real lowest, Real highest) {
  value = value < lowest ? lowest : value;
  return value > highest ? highest : value;
}

}  // namespace fvfast
