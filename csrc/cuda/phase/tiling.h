// How the transforms of an image are cut into blocks, and the memory that kernels pass on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/launch.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/spectrum.h"
#include "cuda/shared_memory.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kTransformThreads = 512;
// A sector of 32 bytes holds so many numbers of 8 bytes: fewer lanes would read what they drop.
constexpr int kFewestLanes = 4;
// Large GPUs have about as many multiprocessors, and fewer blocks leave some of them idle. One
// number for all of them, so that sums are added up in the same order.
constexpr int64_t kWantedBlocks = 128;

// Columns go one to a lane. Rows go in pairs, as the real and imaginary part of one lane, and the
// three planes of a pair that share colors lie in neighboring lanes.
struct Tiling {
  int lanes;  // a power of two; 0: the transform does not fit
  int threads;
  size_t shared_bytes;
  TransformPlan plan;
};

// As many lanes as there is room for, from `fewest` to kTileColumns, and fewer as long as that
// makes too few blocks: `blocks_with` says how many there are with some number of lanes.
template <typename Count>
Tiling tiling_of(DType dtype, int64_t length, int fewest, int device, int most_threads,
                 const Count& blocks_with) {
  Tiling tiling{};
  if (!make_plan(length, &tiling.plan)) return tiling;
  const size_t limit = shared_limit(device, "transform_fits");
  for (int lanes = kTileColumns; lanes >= fewest; lanes /= 2) {
    const size_t bytes = with_real(
        dtype, [&](auto real) { return TransformMemory<decltype(real)>::bytes(length, lanes); });
    if (bytes > limit) continue;
    if (lanes > kFewestLanes && blocks_with(lanes) < kWantedBlocks) continue;
    // Eight numbers for each thread, where that makes whole warps that divide into lanes.
    const int64_t wanted = length * lanes / 8;
    tiling.threads = static_cast<int>(
        std::clamp<int64_t>(divided_up(wanted, kWarp) * kWarp, 2 * kWarp, most_threads));
    tiling.lanes = lanes;
    tiling.shared_bytes = bytes;
    return tiling;
  }
  return tiling;
}

// Blocks that share the columns of one channel.
inline int64_t tiles_of(const SpectrumSizes& sizes, int lanes) {
  return divided_up(sizes.half(), lanes);
}

// Blocks that share the rows of `planes` planes.
inline int64_t row_tiles_of(const SpectrumSizes& sizes, int lanes, int planes) {
  return divided_up(divided_up(sizes.height, 2), lanes / planes);
}

// The lanes depend on one image, not on their number: blocks add up the columns of their lanes, and
// an image has the same bits alone and in a batch.
inline Tiling column_tiling(DType dtype, const SpectrumSizes& sizes, int device,
                            int most_threads = kTransformThreads) {
  return tiling_of(dtype, sizes.height, 1, device, most_threads,
                   [&](int lanes) { return sizes.channels * tiles_of(sizes, lanes); });
}

// Blocks of rows add nothing up.
inline Tiling row_tiling(DType dtype, const SpectrumSizes& sizes, bool has_colors, int device) {
  const int planes = has_colors ? 3 : 1;
  return tiling_of(
      dtype, sizes.width, has_colors ? 4 : 1, device, kTransformThreads, [&](int lanes) {
        return sizes.images * (sizes.channels / planes) * row_tiles_of(sizes, lanes, planes);
      });
}

inline size_t complex_bytes(DType dtype) { return dtype == DType::kFloat64 ? 16 : 8; }

// Hands out parts of the scratch memory, each aligned to 256 bytes.
class Layout {
 public:
  explicit Layout(void* memory) : start_(static_cast<char*>(memory)) {}

  template <typename T = void>
  T* take(size_t bytes) {
    char* taken = start_ == nullptr ? nullptr : start_ + used_;
    used_ += (bytes + 255) / 256 * 256;
    return reinterpret_cast<T*>(taken);
  }

  int64_t used() const { return static_cast<int64_t>(used_); }

 private:
  char* start_;
  size_t used_ = 0;
};

// There are most tiles where each has a single column.
inline size_t most_tiles(const SpectrumSizes& sizes) {
  return static_cast<size_t>(sizes.images * sizes.channels * sizes.half());
}

struct PhaseImageScratch {
  void* half_image;    // (N, C, H, pitch), complex
  EnergyPart* parts;   // (N, C, tiles)
  double* phase_sums;  // (N, kUpdateParts, 2), where none are given
  int64_t bytes;

  PhaseImageScratch(void* memory, DType dtype, const SpectrumSizes& sizes) {
    Layout layout(memory);
    half_image = layout.take(static_cast<size_t>(sizes.images * sizes.rows() * pitch_of(sizes)) *
                             complex_bytes(dtype));
    parts = layout.take<EnergyPart>(most_tiles(sizes) * sizeof(EnergyPart));
    phase_sums =
        layout.take<double>(static_cast<size_t>(sizes.images) * kUpdateParts * 2 * sizeof(double));
    bytes = layout.used();
  }
};

// What a block of columns contributes to the end of the gradient, as sums over its bins: see
// gradient_columns.cu. `moved` is the phase without its mean.
enum GradientSum {
  kProduct,         // of the first term and the image
  kGradient,        // of the first term
  kMoment,          // of the first term times moved
  kTotal,           // of the gradient before the standardization: bins [0, 0]
  kCross,           // of the edge terms
  kCrossMoment,     // of those times moved
  kConstant,        // of the imaginary part of the bins [0, 0]
  kConstantMoment,  // of that times moved
  kGradientSums,
};

// What the gradient of an edge bin still lacks, apart from factors that depend on all bins.
struct alignas(16) EdgeTerm {
  double cross;     // times the slope
  double constant;  // the imaginary part of a bin [0, 0], else 0
};

struct GradientScratch {
  void* half_gradient;  // (N, C, H, pitch), complex
  void* unfinished;     // (N, C, H, gradient pitch)
  double* sums;         // (N, kGradientSums, C, tiles)
  EdgeTerm* edges;      // (N, C, H, 2)
  int64_t bytes;

  GradientScratch(void* memory, DType dtype, const SpectrumSizes& sizes) {
    Layout layout(memory);
    half_gradient = layout.take(static_cast<size_t>(sizes.images * sizes.rows() * pitch_of(sizes)) *
                                complex_bytes(dtype));
    unfinished =
        layout.take(static_cast<size_t>(sizes.images * sizes.rows() * gradient_pitch_of(sizes)) *
                    complex_bytes(dtype) / 2);
    sums = layout.take<double>(most_tiles(sizes) * kGradientSums * sizeof(double));
    edges = layout.take<EdgeTerm>(static_cast<size_t>(sizes.images * sizes.rows() * 2) *
                                  sizeof(EdgeTerm));
    bytes = layout.used();
  }
};

}  // namespace fvfast::cuda
