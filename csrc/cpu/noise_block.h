// The noise of consecutive elements: what costs most in every op that adds noise.
#pragma once

#include <cstdint>

#include "cpu/philox_block.h"

namespace fvfast::cpu {

constexpr int kBlock = 4 * kLanes;  // elements that are made side by side

// The noise of `count` elements from number `element` on, in whole blocks; `philox` is for
// Purpose::kNoise. Returns where it starts: the counter of the first element may hold numbers of up
// to three elements before it, so `noise` needs room for count + 3 numbers, rounded up to whole
// blocks. A scale of 0 costs nothing.
template <typename Real>
const Real* fill_noise(const PhiloxBlock& philox, int64_t element, int64_t count, Real std,
                       Real uniform_width, Real* noise);

}  // namespace fvfast::cpu
