// Where the samples of a box lie on one axis of an image.
//
// Positions are double, whatever the images are. Boxes are float32 as a rule; then start (L - 1)
// and the span have no rounding error, and the corners of a box are sampled exactly. No product is
// fused with a sum, so that a sample lies inside or outside alike on every device, for rows and
// columns, and in the gradient, which would not be the transpose otherwise.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/macros.h"
#include "common/rounding.h"
#include "ops.h"

namespace fvfast {

// In fractions of the image.
struct Box {
  double y1, x1, y2, x2;
};

// Box `index` of an array (..., 4) of float32 or float64.
FVFAST_HOST_DEVICE Box box_at(const void* boxes, DType dtype, int64_t index) {
  if (dtype == DType::kFloat64) {
    const double* box = static_cast<const double*>(boxes) + 4 * index;
    return {box[0], box[1], box[2], box[3]};
  }
  const float* box = static_cast<const float*>(boxes) + 4 * index;
  return {box[0], box[1], box[2], box[3]};
}

struct Sample {
  int64_t lower;  // the pixel at or before the sample
  double share;   // of the pixel after it, in [0, 1)
  bool inside;
};

class Axis {
 public:
  Axis() = default;  // uninitialized, for arrays in shared memory
  FVFAST_HOST_DEVICE Axis(double start, double stop, int64_t size, int64_t length)
      : first_(rounded_product(start, static_cast<double>(length - 1))),
        span_((stop - start) * static_cast<double>(length - 1)),
        last_pixel_(static_cast<double>(length - 1)),
        size_(size) {}

  FVFAST_HOST_DEVICE Sample sample(int64_t index) const {
    const double fraction =
        size_ > 1 ? static_cast<double>(index) / static_cast<double>(size_ - 1) : 0.5;
    const double position = first_ + rounded_product(fraction, span_);
    const bool inside = contains(position);
    const double clamped = inside ? position : 0;
    const double lower = std::floor(clamped);
    return {static_cast<int64_t>(lower), clamped - lower, inside};
  }

#if !defined(__CUDA_ARCH__)
  // The positions of samples [first, first + count), to the bit those of sample(), as vector code.
  template <int capacity>
  FVFAST_HOST_DEVICE void positions(int64_t first, int count, double (&out)[capacity]) const {
    const double start = static_cast<double>(first), gaps = static_cast<double>(size_ - 1);
    for (int i = 0; i < count; ++i) {
      const double fraction = size_ > 1 ? (start + static_cast<double>(i)) / gaps : 0.5;
      out[i] = fraction * span_;
    }
    keep_rounded(out);
    for (int i = 0; i < count; ++i) out[i] += first_;
  }
#endif

  // Whether a position lies inside the image.
  FVFAST_HOST_DEVICE bool contains(double position) const {
    return position >= 0 && position <= last_pixel_;
  }

  // Where the first sample lies, and the distance to the next one: 0 if there is none, negative if
  // the box is flipped. In pixels, and only approximate: see sample().
  FVFAST_HOST_DEVICE double first() const { return first_; }
  FVFAST_HOST_DEVICE float spacing() const {
    return size_ > 1 ? static_cast<float>(span_) / static_cast<float>(size_ - 1) : 0.0f;
  }

 private:
  double first_;
  double span_;
  double last_pixel_;
  int64_t size_;
};

}  // namespace fvfast
