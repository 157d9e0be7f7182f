// The special registers: %tid.x and its like.
#pragma once

#include <optional>

#include "types.h"

namespace ptx {

// Three numbers each: x, y, z.
enum SpecialRegister : int {
  kThreadIndex = 0,
  kBlockSize = 3,
  kBlockIndex = 6,
  kGridSize = 9,
  kLane = 12,
  kWarpIndex,
  kWarpCount,
  kLanesEqual,
  kLanesLess,
  kLanesLessEqual,
  kLanesGreater,
  kLanesGreaterEqual,
  kProcessorIndex,
  kProcessorCount,
  kDynamicShared,
  kTotalShared,
  kGridIdentity,
  kClusterRank,
  kClusterBlocks,
  kIsExplicitCluster,
  kClusterIndex = 40,  // three numbers each, again
  kClusterCount = 43,
  kIndexInCluster = 46,
  kClusterSize = 49,
  kClock = 100,  // read when the instruction runs, not at the beginning of the function
};

std::optional<int> special_register_named(string_view name);

}  // namespace ptx
