// The levels of a pyramid, and where their elements lie in the image.
//
// The last level has the size of the image, and each level before it half of that, rounded up, down
// to a single element. A pixel takes from each level what bilinear resampling gives at its center:
// pixel i of `length` lies at (i + 0.5) size / length - 0.5 of a level of `size` elements. That is
// a fraction of whole numbers, so its place has no rounding error, and is the same on every device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/division.h"
#include "common/macros.h"
#include "ops.h"

namespace fvfast {

// 2 * kLongestSide - 1 times kLongestSide still is a word of 32 bits.
constexpr int64_t kLongestSide = int64_t{1} << 15;
constexpr int kMostLevels = 16;  // of an image as long as that

struct PyramidLevel {
  int32_t height, width;
  int64_t offset;  // of its first element in the pyramid of a channel
};

// Of an image (height, width), the coarsest level first.
struct PyramidLevels {
  int count;
  int64_t elements;  // of all levels
  PyramidLevel level[kMostLevels];
};

inline PyramidLevels levels_of(int64_t height, int64_t width) {
  PyramidLevels levels{};
  levels.count = 1;
  for (int64_t longest = std::max(height, width); longest > 1; longest = (longest + 1) / 2) {
    ++levels.count;
  }
  for (int index = levels.count - 1; index >= 0; --index) {
    levels.level[index] = {static_cast<int32_t>(height), static_cast<int32_t>(width), 0};
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  }
  for (int index = 0; index < levels.count; ++index) {
    PyramidLevel& level = levels.level[index];
    level.offset = levels.elements;
    levels.elements += int64_t{level.height} * level.width;
  }
  return levels;
}

// The levels that are resampled: all that take part, but the one of the image's size.
inline int coarse_levels(const PyramidLevels& levels, const PyramidSizes& sizes) {
  return static_cast<int>(std::min<int64_t>(sizes.levels, levels.count - 1));
}

// What a pixel reads of an axis.
template <typename Real>
struct LevelSample {
  int32_t lower, upper;
  Real share;  // of the upper element
};

// An axis of a level of `size` elements under an image of `length` pixels.
class LevelAxis {
 public:
  FVFAST_HOST_DEVICE LevelAxis(int64_t size, int64_t length)
      : size_(static_cast<uint32_t>(size)), length_(static_cast<uint32_t>(length)) {}

  template <typename Real>
  FVFAST_HOST_DEVICE LevelSample<Real> sample(int64_t pixel) const {
    const uint32_t ahead = (2 * static_cast<uint32_t>(pixel) + 1) * size_;
    const uint32_t place = ahead > length_ ? ahead - length_ : 0;  // times 2 length
    const uint32_t lower = place / (2 * length_);
    const bool is_last = lower + 1 >= size_;  // beyond its center all is as there
    const uint32_t rest = is_last ? 0 : place - lower * (2 * length_);
    return {static_cast<int32_t>(lower), static_cast<int32_t>(is_last ? lower : lower + 1),
            static_cast<Real>(rest) / static_cast<Real>(2 * length_)};
  }

  // The first and the last of the pixels that read an element with a weight that is not 0; between
  // them, all do.
  FVFAST_HOST_DEVICE int64_t first_reader(int64_t element) const {
    if (element == 0) return 0;
    const uint32_t ahead = static_cast<uint32_t>(2 * element - 1) * length_;
    return (ahead - size_) / (2 * size_) + 1;
  }
  // The first of these that reads it as its lower element: before, it is the upper one.
  FVFAST_HOST_DEVICE int64_t first_above(int64_t element) const {
    if (element == 0) return 0;
    const uint32_t ahead = static_cast<uint32_t>(2 * element + 1) * length_;
    return (ahead + size_ - 1) / (2 * size_);
  }
  FVFAST_HOST_DEVICE int64_t last_reader(int64_t element) const {
    if (element + 1 >= static_cast<int64_t>(size_)) return int64_t{length_} - 1;
    const uint32_t ahead = static_cast<uint32_t>(2 * element + 3) * length_;
    return (ahead - size_ - 1) / (2 * size_);
  }

 private:
  uint32_t size_, length_;
};

// How many neighboring elements of a level `count` neighboring pixels read, at most.
inline int32_t most_read(int64_t count, int64_t size, int64_t length) {
  return static_cast<int32_t>(std::min(size, (count - 1) * size / length + 3));
}

// The gradient of the coarse levels is made of parts: each tile of the image has a sum for each
// element that its pixels read, and these are added up in the order of the tiles.
struct PyramidParts {
  int32_t tile_height, tile_width;  // in pixels
  int64_t down, across;             // tiles of an image
  int64_t of_tile;                  // elements of the parts of one tile
  int32_t rows[kMostLevels];        // room for the part of each level
  int32_t columns[kMostLevels];
  int64_t offset[kMostLevels];

  FVFAST_HOST_DEVICE int64_t tiles() const { return down * across; }
};

inline PyramidParts parts_of(const PyramidLevels& levels, const PyramidSizes& sizes,
                             int32_t tile_height, int32_t tile_width) {
  PyramidParts parts{};
  parts.tile_height = tile_height;
  parts.tile_width = tile_width;
  parts.down = divided_up(sizes.height, tile_height);
  parts.across = divided_up(sizes.width, tile_width);
  for (int index = 0; index < coarse_levels(levels, sizes); ++index) {
    const PyramidLevel& level = levels.level[index];
    parts.rows[index] = most_read(tile_height, level.height, sizes.height);
    parts.columns[index] = most_read(tile_width, level.width, sizes.width);
    parts.offset[index] = parts.of_tile;
    parts.of_tile += int64_t{parts.rows[index]} * parts.columns[index];
  }
  return parts;
}

}  // namespace fvfast
