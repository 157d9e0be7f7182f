// Drawing boxes. A step has a few hundred of them at most: neither threads nor vectors would pay.
#include <algorithm>
#include <cstdint>

#include "common/normal.h"
#include "common/philox.h"
#include "ops.h"

namespace fvfast::cpu {

void draw_boxes(const BoxParams& params) {
  const uint32_t key0 = static_cast<uint32_t>(params.seed);
  const uint32_t key1 = static_cast<uint32_t>(params.seed >> 32);
  float* box = params.boxes;
  for (int64_t n = 0; n < params.images; ++n) {
    for (int64_t k = 0; k < params.crops; ++k, box += 4) {
      uint32_t words[4] = {static_cast<uint32_t>(k), params.step, params.streams[n],
                           static_cast<uint32_t>(Purpose::kBox)};
      philox4x32(words, key0, key1);
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
      const float side =
          std::clamp(params.box_size + params.spread * deviation, params.smallest, params.largest);
      box[0] = center_y - side / 2;
      box[1] = center_x - side / 2;
      box[2] = center_y + side / 2;
      box[3] = center_x + side / 2;
    }
  }
}

}  // namespace fvfast::cpu
