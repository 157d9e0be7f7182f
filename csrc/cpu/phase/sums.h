// Sums over one image whose bits do not depend on the number of threads.
//
// An image is cut into kSumParts parts of equal size. Each part is summed in kSumLanes interleaved
// sums, which suits vector units; then the lanes are added pairwise, and the parts in order.
// Everything is float64.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/macros.h"
#include "cpu/parallel.h"
#include "ops.h"

namespace fvfast::cpu {

// With fewer, compilers unroll a loop over them before they vectorize it.
constexpr int kSumLanes = 64;
constexpr int64_t kSumGrain = 16 * 1024;  // elements worth a thread

// Overwrites the lanes.
FVFAST_HOST_DEVICE double sum_of_lanes(double lanes[kSumLanes]) {
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

// Element of `scratch` (N, kSumParts, kSumsPerPart): the sums of one part.
inline double* sums_of_part(double* scratch, int64_t image, int64_t part) {
  return scratch + (image * kSumParts + part) * kSumsPerPart;
}

// Adds the parts of one sum of an image.
inline double sum_of_parts(const double* scratch, int64_t image, int which) {
  double sum = 0;
  for (int64_t part = 0; part < kSumParts; ++part) {
    sum += scratch[(image * kSumParts + part) * kSumsPerPart + which];
  }
  return sum;
}

// A part of an image: its elements [begin, end).
struct Part {
  int64_t image;
  int64_t index;
  int64_t begin;
  int64_t end;
};

// Part `unit` of all the parts of a batch.
inline Part part_of(int64_t unit, int64_t elements) {
  const int64_t index = unit % kSumParts;
  return {unit / kSumParts, index, elements * index / kSumParts,
          elements * (index + 1) / kSumParts};
}

// Calls body(begin, end) on ranges of units, of which each image has kSumParts.
template <typename Body>
void parallel_parts(int64_t images, int64_t elements, const Body& body) {
  parallel_for(images * kSumParts,
               std::max<int64_t>(1, kSumGrain * kSumParts / std::max<int64_t>(1, elements)), body);
}

}  // namespace fvfast::cpu
