// For each pixel, the samples of a box that read it: what turns the transpose of resampling into a
// gather. Made once for each box, in the caller's scratch memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/bilinear.h"
#include "cpu/crop/resample_row.h"
#include "cpu/parallel.h"

namespace fvfast::cpu {

// Hands out parts of the scratch memory, each on a cache line of its own.
class Scratch {
 public:
  explicit Scratch(void* memory) : next_(static_cast<char*>(memory)) {}

  template <typename T>
  T* take(int64_t count) {
    T* taken = reinterpret_cast<T*>(next_);
    next_ += padded<T>(count);
    return taken;
  }

  template <typename T>
  static int64_t padded(int64_t count) {
    return divided_up(count * static_cast<int64_t>(sizeof(T)), 64) * 64;
  }

 private:
  char* next_;
};

// The rows of a crop that read each row of the image, of one box.
template <typename Real>
struct RowReaders {
  int64_t* range;  // {first row of the image that is read, one past the last}
  int32_t* start;  // (image_height,): the first row of the crop that reads it
  int32_t* count;  // (image_height,)
  int32_t* lower;  // (height,): the row of the image at or before each row of the crop
  Real* share;     // (height,): of the row of the image after it

  RowReaders(Scratch& scratch, int64_t height, int64_t image_height)
      : range(scratch.take<int64_t>(2)),
        start(scratch.take<int32_t>(image_height)),
        count(scratch.take<int32_t>(image_height)),
        lower(scratch.take<int32_t>(height)),
        share(scratch.take<Real>(height)) {}

  static int64_t bytes(int64_t height, int64_t image_height) {
    return Scratch::padded<int64_t>(2) + 2 * Scratch::padded<int32_t>(image_height) +
           Scratch::padded<int32_t>(height) + Scratch::padded<Real>(height);
  }

  Real weight(int64_t row, int64_t pixel_row) const {
    return lower[row] == pixel_row ? Real(1) - share[row] : share[row];
  }

  void fill(const Axis& axis, int64_t height, int64_t image_height) {
    range[0] = image_height;
    range[1] = 0;
    std::fill_n(count, image_height, 0);
    for (int64_t y = 0; y < height; ++y) {
      const Sample sample = axis.sample(y);
      if (!sample.inside) continue;
      lower[y] = static_cast<int32_t>(sample.lower);
      share[y] = static_cast<Real>(sample.share);
      const int64_t upper = std::min(sample.lower + 1, image_height - 1);
      for (int64_t pixel = sample.lower; pixel <= upper; ++pixel) {
        if (count[pixel]++ == 0) start[pixel] = static_cast<int32_t>(y);
      }
      range[0] = std::min(range[0], sample.lower);
      range[1] = std::max(range[1], upper + 1);
    }
  }
};

// The readers of columns, for one tile of at most kColumns columns of a crop.
template <typename Real>
struct ColumnReaders {
  Readers<Real>* readers;
  int32_t* start;
  Real* weights;

  ColumnReaders(Scratch& scratch, int64_t image_width)
      : readers(scratch.take<Readers<Real>>(1)),
        start(scratch.take<int32_t>(starts(image_width))),
        weights(scratch.take<Real>(capacity(image_width))) {}

  static int64_t bytes(int64_t image_width) {
    return Scratch::padded<Readers<Real>>(1) + Scratch::padded<int32_t>(starts(image_width)) +
           Scratch::padded<Real>(capacity(image_width));
  }

  static int64_t starts(int64_t image_width) { return image_width + kVector; }

  // Elements that `weights` needs: (P + kVector - 1) T for P pixels from the first to the last that
  // is read and T taps. With n samples that lie s pixels apart inside an image of L pixels, n s <=
  // L, P <= n s + 3 and T <= min(n, 2 / s + 2), each with one to spare for rounding. If n s < 2, P
  // T is at most 5 n, else at most 2 n + 2 n s + 6 / s + 6 <= 5 n + 2 L + 6.
  static int64_t capacity(int64_t image_width) {
    return 2 * image_width + kColumns * (kVector + 8) + 4 * kVector;
  }

  void fill(const Axis& axis, int64_t first, int count, int64_t image_width) {
    Samples<Real> samples;
    place_samples(axis, first, count, image_width, 1, samples);
    *readers = {0, 0, 0, 0, start, weights};
    if (samples.begin >= samples.end) return;
    // Positions are monotonic: the extremes are at the ends.
    const int left = samples.begin, right = samples.end - 1;
    const int32_t first_pixel = std::min(samples.lower[left], samples.lower[right]);
    const int32_t last_pixel = std::max(samples.upper[left], samples.upper[right]);
    const int32_t pixels = last_pixel - first_pixel + 1;
    const int32_t padded = static_cast<int32_t>(divided_up(pixels, kVector) * kVector);

    std::fill_n(start, padded, -1);
    int32_t taps = 0;
    for (int x = left; x <= right; ++x) {
      for (int32_t pixel = samples.lower[x]; pixel <= samples.upper[x]; ++pixel) {
        int32_t& from = start[pixel - first_pixel];
        if (from < 0) from = x;
        taps = std::max(taps, x - from + 1);
      }
    }
    // Pixels between samples that lie far apart are read by no sample. Their readers, with weight
    // 0, are those of a neighbor, so that a vector of pixels reads neighboring samples.
    for (int32_t j = 1; j < padded; ++j) {
      if (start[j] < 0) start[j] = start[j - 1];
    }
    std::fill_n(weights, int64_t{taps} * padded, Real(0));
    for (int x = left; x <= right; ++x) {
      const int32_t lower = samples.lower[x] - first_pixel, upper = samples.upper[x] - first_pixel;
      weights[int64_t{x - start[lower]} * padded + lower] += Real(1) - samples.share[x];
      weights[int64_t{x - start[upper]} * padded + upper] += samples.share[x];
    }
    *readers = {first_pixel, pixels, padded, taps, start, weights};
  }
};

}  // namespace fvfast::cpu
