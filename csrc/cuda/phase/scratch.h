// The memory that the kernels of the phase pass on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/dispatch.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

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

// The parts of the sums over the columns of a channel, of blocks with this many lanes.
inline int64_t column_parts(const SpectrumSizes& sizes, int lanes) {
  return tiles_of(sizes, std::min(lanes, kPartColumns));
}

// Those of them that have an edge column: the first and, if the width is even, the last.
inline int64_t edge_parts(const SpectrumSizes& sizes, int lanes) {
  return sizes.width % 2 == 0 && column_parts(sizes, lanes) > 1 ? 2 : 1;
}

// There are most parts where each has a single column.
inline size_t most_parts(const SpectrumSizes& sizes) {
  return static_cast<size_t>(sizes.images * sizes.channels * sizes.half());
}

struct PhaseImageScratch {
  void* half_image;    // (N, C, H, pitch), complex
  double* energies;    // (N, C, column parts): see ImageMoments
  double* constants;   // (N, C)
  double* phase_sums;  // (N, kUpdateParts, 2), where none are given
  int64_t bytes;

  PhaseImageScratch(void* memory, DType dtype, const SpectrumSizes& sizes) {
    Layout layout(memory);
    half_image = layout.take(static_cast<size_t>(sizes.images * sizes.rows() * pitch_of(sizes)) *
                             complex_bytes(dtype));
    energies = layout.take<double>(most_parts(sizes) * sizeof(double));
    constants =
        layout.take<double>(static_cast<size_t>(sizes.images * sizes.channels) * sizeof(double));
    phase_sums =
        layout.take<double>(static_cast<size_t>(sizes.images) * kUpdateParts * 2 * sizeof(double));
    bytes = layout.used();
  }
};

// What the columns contribute to the end of the gradient, as sums over their bins: see
// gradient_columns.cu. `moved` is the phase without its mean.
enum ColumnSum {
  kProduct,   // of the first term and the image
  kGradient,  // of the first term
  kMoment,    // of the first term times moved
  kColumnSums,
};

// The same, but 0 for columns other than the edges.
enum EdgeSum {
  kTotal,           // of the gradient before the standardization: bins [0, 0]
  kCross,           // of the edge terms
  kCrossMoment,     // of those times moved
  kConstant,        // of the imaginary part of the bins [0, 0]
  kConstantMoment,  // of that times moved
  kEdgeSums,
};

// What the gradient of an edge bin still lacks, apart from factors that depend on all bins.
struct alignas(16) EdgeTerm {
  double cross;     // times the slope
  double constant;  // the imaginary part of a bin [0, 0], else 0
};

struct GradientScratch {
  void* half_gradient;  // (N, C, H, pitch), complex
  void* unfinished;     // (N, C, H, gradient pitch)
  double* sums;         // (N, kColumnSums, C, column parts)
  double* edge_sums;    // (N, kEdgeSums, C, edge parts)
  EdgeTerm* edges;      // (N, C, H, 2)
  int64_t bytes;

  GradientScratch(void* memory, DType dtype, const SpectrumSizes& sizes) {
    Layout layout(memory);
    half_gradient = layout.take(static_cast<size_t>(sizes.images * sizes.rows() * pitch_of(sizes)) *
                                complex_bytes(dtype));
    unfinished =
        layout.take(static_cast<size_t>(sizes.images * sizes.rows() * gradient_pitch_of(sizes)) *
                    complex_bytes(dtype) / 2);
    sums = layout.take<double>(most_parts(sizes) * kColumnSums * sizeof(double));
    edge_sums = layout.take<double>(static_cast<size_t>(sizes.images * sizes.channels) * 2 *
                                    kEdgeSums * sizeof(double));
    edges = layout.take<EdgeTerm>(static_cast<size_t>(sizes.images * sizes.rows() * 2) *
                                  sizeof(EdgeTerm));
    bytes = layout.used();
  }
};

}  // namespace fvfast::cuda
