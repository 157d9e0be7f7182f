// What the bindings of the phase check.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/checks.h"
#include "bindings/memory.h"
#include "ops.h"

namespace fvfast {

// Checks that there are `dims` sizes, all but the first positive, of at most kMaxElements elements.
inline void check_phase_sizes(const std::string& function, const std::vector<int64_t>& sizes,
                              size_t dims, const std::string& names) {
  if (sizes.size() != dims) {
    reject(function, "sizes", names, std::to_string(sizes.size()) + " sizes");
  }
  int64_t elements = 1;
  for (size_t d = 0; d < dims; ++d) {
    if (sizes[d] < (d == 0 ? 0 : 1)) {
      reject(function, "sizes", names + ", the first at least 0, all others at least 1",
             std::to_string(sizes[d]));
    }
    if (sizes[d] > 0 && elements > kMaxElements / sizes[d]) {
      reject(function, "sizes", "at most 2^48 elements", "more");
    }
    elements *= std::max<int64_t>(sizes[d], 1);
  }
}

inline SpectrumSizes sizes_of(const std::string& function, const std::vector<int64_t>& sizes) {
  check_phase_sizes(function, sizes, 4, "(N, C, H, W)");
  return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

// Of scratch memory on CUDA, in bytes; tensors of torch are aligned to more.
constexpr int64_t kScratchAlignment = 64;

#ifdef FVFAST_WITH_CUDA
// Requires a height and a width that the kernels of a device transform.
inline void require_fit(const std::string& function, const std::string& argument, DType dtype,
                        const SpectrumSizes& sizes, bool has_colors, int device) {
  if (!cuda::transform_fits(dtype, sizes, has_colors, device)) {
    reject(function, argument, "a height and a width for which transform_fits() is true",
           std::to_string(sizes.height) + " x " + std::to_string(sizes.width));
  }
}
#endif

// How many numbers the statistics of some images are.
inline int64_t statistics_count(int64_t images) {
  static_assert(sizeof(SpectrumStatistics) == 4 * sizeof(double), "four numbers for each image");
  return 4 * images;
}

inline const SpectrumStatistics* read_statistics(Memory& memory, const Buffer& statistics,
                                                 int64_t images) {
  return static_cast<const SpectrumStatistics*>(
      memory.reads("statistics", statistics, DType::kFloat64, statistics_count(images)));
}

inline SpectrumStatistics* write_statistics(Memory& memory, const Buffer& statistics,
                                            int64_t images) {
  return static_cast<SpectrumStatistics*>(
      memory.writes("statistics", statistics, DType::kFloat64, statistics_count(images)));
}

inline double finite_of(const std::string& function, const std::string& argument, double value) {
  if (!std::isfinite(value)) reject(function, argument, "a finite number", std::to_string(value));
  return value;
}

// Fills the fields for the range and the colors of an image.
template <typename Params>
void set_colors(const std::string& function, const std::vector<std::vector<double>>& colors,
                double low, double high, Params* params) {
  params->low = finite_of(function, "low", low);
  params->high = finite_of(function, "high", high);
  if (!(low < high)) {
    reject(function, "high", "a number above low, " + std::to_string(low), std::to_string(high));
  }
  params->has_colors = !colors.empty();
  if (colors.empty()) return;
  if (params->sizes.channels != 3) {
    reject(function, "colors", "no colors unless there are 3 channels",
           std::to_string(colors.size()) + " rows");
  }
  bool fits = colors.size() == 3;
  for (const std::vector<double>& row : colors) fits = fits && row.size() == 3;
  if (!fits) reject(function, "colors", "3 rows of 3 numbers", "another shape");
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      params->colors[i][j] = finite_of(function, "colors", colors[i][j]);
    }
  }
}

}  // namespace fvfast
