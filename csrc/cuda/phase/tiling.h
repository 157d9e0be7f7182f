// How the transforms of an image are cut into blocks.
//
// The number of lanes of a block is chosen by how many blocks the device needs; no result depends
// on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/launch.h"
#include "cuda/multiprocessors.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/register_fft.h"
#include "cuda/phase/spectrum.h"
#include "cuda/shared_memory.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kTransformThreads = 512;  // of a block, at most
// Of a block of rows in registers, at most: each thread needs more of those. A pair of rows of 1024
// pixels and three colors has so many.
constexpr int kRegisterRowThreads = 384;
// Of a block of columns in registers that could have fewer: then a multiprocessor has several, of
// which some wait for memory while others compute.
constexpr int kRegisterColumnThreads = 256;
// Sequences that one block transforms, at most: 16 numbers of 8 bytes fill the banks once.
constexpr int kMostLanes = 16;
// A sector of 32 bytes holds so many numbers of 8 bytes: fewer lanes would read what they drop.
constexpr int kFewestLanes = 4;
// Sums over columns come in parts of so many, or of all columns of a block that has fewer.
constexpr int kPartColumns = kFewestLanes;
// Without a transform a block has so many columns, and threads.
constexpr int kWideTileColumns = 32;
constexpr int kWideThreads = 256;

// Who transforms.
enum class Transform {
  kElsewhere,    // torch: the block does only what goes with it
  kInShared,     // fft.h: any length that has a plan
  kInRegisters,  // register_fft.h
};

// Columns go one to a lane. Rows go in pairs, as the real and imaginary part of one lane, and the
// three planes of a pair that share colors lie in neighboring lanes.
struct Tiling {
  int lanes;  // 0: the transform does not fit
  int threads;
  size_t shared_bytes;
  TransformPlan plan;
  Transform transform;
};

// Blocks that share the columns of one channel.
inline int64_t tiles_of(const SpectrumSizes& sizes, int lanes) {
  return divided_up(sizes.half(), lanes);
}

// Blocks that share the rows of `planes` planes.
inline int64_t row_tiles_of(const SpectrumSizes& sizes, int lanes, int planes) {
  return divided_up(divided_up(sizes.height, 2), lanes / planes);
}

inline int whole_warps(int64_t threads) {
  return static_cast<int>(divided_up(threads, kWarp) * kWarp);
}

inline size_t transform_bytes(Transform transform, DType dtype, int64_t length, int lanes) {
  return with_real(dtype, [&](auto real) {
    using Real = decltype(real);
    return transform == Transform::kInRegisters ? RegisterMemory<Real>::bytes(length, lanes)
                                                : TransformMemory<Real>::bytes(length, lanes);
  });
}

// Finds the most lanes, of kMostLanes * `step`, half of that and so on down to `fewest`, that a
// block has threads and memory for. More than `enough` are halved as long as a block would have
// more than `most_threads`, or there would be fewer blocks than multiprocessors:
// threads_with(lanes) and blocks_with(lanes) say how many there are.
template <typename Threads, typename Blocks>
Tiling tiling_of(Transform transform, DType dtype, const TransformPlan& plan, int step, int fewest,
                 int enough, int most_threads, int device, const Threads& threads_with,
                 const Blocks& blocks_with) {
  Tiling tiling{};
  const size_t limit = shared_limit(device, "transform_fits");
  const int64_t wanted = multiprocessors(device, "transform_fits");
  for (int lanes = kMostLanes * step; lanes >= fewest; lanes /= 2) {
    const int threads = threads_with(lanes);
    const size_t bytes = transform_bytes(transform, dtype, plan.length, lanes);
    const bool necessary = lanes <= enough;
    if (threads > (necessary ? kTransformThreads : most_threads) || bytes > limit) continue;
    if (!necessary && blocks_with(lanes) < wanted) continue;
    return {lanes, threads, bytes, plan, transform};
  }
  return tiling;
}

// The threads that share a column in shared memory: about one for 8 rows, whatever the number of
// lanes, because each adds up its rows.
inline int threads_of_column(int64_t height) {
  const int64_t wanted = divided_up(height, 8), unit = wanted > kWarp ? kWarp : 8;
  return static_cast<int>(std::clamp<int64_t>(divided_up(wanted, unit) * unit, 16, 128));
}

inline Tiling column_tiling(DType dtype, const SpectrumSizes& sizes, int device) {
  Tiling tiling{};
  TransformPlan plan;
  if (!make_plan(sizes.height, &plan)) return tiling;
  const auto blocks_with = [&](int lanes) {
    return sizes.images * sizes.channels * tiles_of(sizes, lanes);
  };
  if (fits_registers(sizes.height)) {
    const auto threads = [&](int lanes) {
      return static_cast<int>(sizes.height) / kPoints * lanes;
    };
    tiling = tiling_of(Transform::kInRegisters, dtype, plan, 1, kFewestLanes, kFewestLanes,
                       kRegisterColumnThreads, device, threads, blocks_with);
    if (tiling.lanes > 0) return tiling;
  }
  const auto threads = [&](int lanes) {
    return whole_warps(int64_t{threads_of_column(sizes.height)} * lanes);
  };
  return tiling_of(Transform::kInShared, dtype, plan, 1, 1, kFewestLanes, kTransformThreads, device,
                   threads, blocks_with);
}

inline Tiling row_tiling(DType dtype, const SpectrumSizes& sizes, bool has_colors, int device) {
  Tiling tiling{};
  TransformPlan plan;
  if (!make_plan(sizes.width, &plan)) return tiling;
  const int planes = has_colors ? 3 : 1;
  const auto blocks_with = [&](int lanes) {
    return sizes.images * (sizes.channels / planes) * row_tiles_of(sizes, lanes, planes);
  };
  if (fits_registers(sizes.width)) {
    const auto threads = [&](int lanes) { return whole_warps(sizes.width / kPoints * lanes); };
    tiling = tiling_of(Transform::kInRegisters, dtype, plan, planes, planes, planes,
                       kRegisterRowThreads, device, threads, blocks_with);
    if (tiling.lanes > 0) return tiling;
  }
  // Eight numbers for each thread, where that makes whole warps that divide into lanes.
  const auto threads = [&](int lanes) {
    return std::clamp(whole_warps(sizes.width * lanes / 8), 2 * kWarp, kTransformThreads);
  };
  return tiling_of(Transform::kInShared, dtype, plan, 1, has_colors ? 4 : 1, kFewestLanes,
                   kTransformThreads, device, threads, blocks_with);
}

}  // namespace fvfast::cuda
