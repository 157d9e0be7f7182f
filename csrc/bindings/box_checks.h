// What the bindings of drawing boxes check.
#pragma once

#include <cmath>
#include <string>

#include "bindings/checks.h"
#include "ops.h"

namespace fvfast {

// A number that float32 holds: a larger one would become infinite on its way into the struct.
inline float float_argument(const std::string& function, const std::string& argument,
                            double value) {
  const float rounded = static_cast<float>(value);
  if (!std::isfinite(rounded)) {
    reject(function, argument, "a finite float32 number", std::to_string(value));
  }
  return rounded;
}

inline bool is_normal(const std::string& function, const std::string& shape) {
  if (shape != "normal" && shape != "uniform") {
    reject(function, "shape", "normal or uniform", shape);
  }
  return shape == "normal";
}

// Fills the fields for how boxes scatter.
inline void set_distribution(const std::string& function, double box_size, const std::string& shape,
                             double spread, double center_spread, double smallest, double largest,
                             BoxParams& params) {
  params.normal = is_normal(function, shape);
  params.box_size = float_argument(function, "box_size", box_size);
  params.spread = float_argument(function, "spread", scale_of(function, "spread", spread));
  params.center_spread =
      float_argument(function, "center_spread", scale_of(function, "center_spread", center_spread));
  params.smallest = float_argument(function, "smallest", smallest);
  params.largest = float_argument(function, "largest", largest);
  if (smallest > largest) {
    reject(function, "largest", "a number >= smallest, " + std::to_string(smallest),
           std::to_string(largest));
  }
}

}  // namespace fvfast
