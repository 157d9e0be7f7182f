// The transpose of the columns' samples: which pixels of a tile read each column of a level.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/pyramid/tables.h"

namespace fvfast::cpu {

constexpr int kLanes = 8;  // sums of one column that are made side by side, and then added up

// Of one level under one column of tiles.
struct LevelReaders {
  int32_t first, count;  // columns of the level that are read
  size_t begin;          // of these among the readers
};

// The pixels of one column; their weights fill whole lanes, with zeros at the end.
struct ColumnReaders {
  int32_t pixel;   // the first
  int32_t groups;  // of kLanes pixels
  size_t weights;
};

template <typename Real>
class PyramidReaders {
 public:
  explicit PyramidReaders(const PyramidTables<Real>& tables) : across_(tables.parts.across) {
    for (int level = 0; level < tables.coarse; ++level) {
      for (int64_t across = 0; across < across_; ++across) {
        add(tables.columns[static_cast<size_t>(level * across_ + across)],
            std::min<int64_t>(kTileColumns, tables.sizes.width - across * kTileColumns));
      }
    }
  }

  FVFAST_HOST_DEVICE const LevelReaders& of(int level, int64_t across) const {
    return levels_[static_cast<size_t>(level * across_ + across)];
  }

  // sums[i] = the weighted sum of the pixels that read column i. `pixels` has kLanes - 1 more
  // elements than a tile has columns.
  FVFAST_HOST_DEVICE void gather(const LevelReaders& level, const Real* pixels, Real* sums) const {
    for (int32_t i = 0; i < level.count; ++i) {
      const ColumnReaders& column = columns_[level.begin + static_cast<size_t>(i)];
      const Real* weight = weights_.data() + column.weights;
      const Real* pixel = pixels + column.pixel;
      Real lanes[kLanes] = {};
      for (int32_t group = 0; group < column.groups; ++group, weight += kLanes, pixel += kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += weight[lane] * pixel[lane];
      }
      static_assert(kLanes == 8, "the lanes are added up in pairs");
      sums[i] = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
                ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
  }

 private:
  void add(const Samples<Real>& samples, int64_t pixels) {
    const int last = static_cast<int>(pixels) - 1;
    const int32_t first = samples.lower[0], count = samples.upper[last] + 1 - first;
    levels_.push_back({first, count, columns_.size()});
    int begin = 0;  // positions are monotonic
    for (int32_t column = first; column < first + count; ++column) {
      while (samples.upper[begin] < column) ++begin;
      int end = begin;
      const size_t weights = weights_.size();
      for (; end <= last && samples.lower[end] <= column; ++end) {
        const Real lower = samples.lower[end] == column ? 1 - samples.share[end] : Real(0);
        const Real upper = samples.upper[end] == column ? samples.share[end] : Real(0);
        weights_.push_back(lower + upper);
      }
      const int groups = (end - begin + kLanes - 1) / kLanes;
      weights_.resize(weights + static_cast<size_t>(groups * kLanes));
      columns_.push_back({begin, groups, weights});
    }
  }

  int64_t across_;
  std::vector<LevelReaders> levels_;
  std::vector<ColumnReaders> columns_;
  std::vector<Real> weights_;
};

}  // namespace fvfast::cpu
