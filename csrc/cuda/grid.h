// The limits of a grid of blocks. Blocks along x share one image or crop; along y and z there are
// many of those, and a launch takes as many as fit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace fvfast::cuda {

constexpr int64_t kGridX = 0x7fffffff;
constexpr int64_t kGridYz = 65535;

// The number of blocks along x, if a grid has room for them; `what` names the op.
inline unsigned grid_x(int64_t blocks, const char* what) {
  if (blocks <= kGridX) return static_cast<unsigned>(blocks);
  throw std::invalid_argument(std::string(what) + "(): sizes: expected sizes that make at most " +
                              std::to_string(kGridX) + " blocks of threads, got " +
                              std::to_string(blocks) + ": use smaller or fewer images or crops");
}

// How much of what is left one launch takes along y or z.
inline unsigned grid_yz(int64_t left) { return static_cast<unsigned>(std::min(kGridYz, left)); }

}  // namespace fvfast::cuda
