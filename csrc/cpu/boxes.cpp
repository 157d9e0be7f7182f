// Drawing boxes. A step has a few hundred of them at most: neither threads nor vectors would pay.
#include "common/boxes.h"

#include <cstdint>

#include "ops.h"

namespace fvfast::cpu {

void draw_boxes(const BoxParams& params) {
  float* box = params.boxes;
  for (int64_t n = 0; n < params.images; ++n) {
    for (int64_t k = 0; k < params.crops; ++k, box += 4) {
      draw_box(params, params.box_size, params.identities[n], params.step, k, box);
    }
  }
}

}  // namespace fvfast::cpu
