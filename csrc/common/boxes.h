// One random box: see BoxParams, whose box_size may lie on the device and is therefore given here.
#pragma once

#include <cstdint>

#include "common/macros.h"
#include "common/normal.h"
#include "common/philox.h"
#include "ops.h"

namespace fvfast {

FVFAST_HOST_DEVICE void draw_box(const BoxParams& params, float box_size, uint32_t identity,
                                 uint32_t step, int64_t crop, float box[4]) {
  uint32_t words[4] = {static_cast<uint32_t>(crop), step, identity,
                       static_cast<uint32_t>(Purpose::kBox)};
  philox4x32(words, static_cast<uint32_t>(params.seed), static_cast<uint32_t>(params.seed >> 32));
  float row, column, deviation;
  normal_pair(words[0], words[1], &row, &column);
  if (params.normal) {
    float unused;
    normal_pair(words[2], words[3], &deviation, &unused);
  } else {
    deviation = 2 * to_uniform<float>(words[2]) - 1;
  }
  const float center_y = 0.5f + params.center_spread * row;
  const float center_x = 0.5f + params.center_spread * column;
  float side = box_size + params.spread * deviation;
  side = side < params.smallest ? params.smallest : side;
  side = side > params.largest ? params.largest : side;
  box[0] = center_y - side / 2;
  box[1] = center_x - side / 2;
  box[2] = center_y + side / 2;
  box[3] = center_x + side / 2;
}

}  // namespace fvfast
