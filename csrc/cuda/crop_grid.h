// What a grid of blocks can be. Along x it holds the parts of one image or crop, along y and z many
// of those, of which one launch takes as many as fit.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace fvfast::cuda {

constexpr int64_t kGridX = 0x7fffffff;
constexpr int64_t kGridYz = 65535;

inline void check_grid(int64_t blocks, const char* what) {
  if (blocks <= kGridX) return;
  throw std::invalid_argument(
      std::string(what) + "(): sizes: expected an image or crop of at most " +
      std::to_string(kGridX) + " tiles, got " + std::to_string(blocks) + ": use smaller ones");
}

}  // namespace fvfast::cuda
