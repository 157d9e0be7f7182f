// The gradient of cropping with respect to the image, as a gather: each row of the image sums what
// every crop says about it, in a fixed order, so that threads share nothing and bits never change.
//
// Like the crop it is separable. First the rows of a crop's gradient that read a row of the image
// are blended, then the columns: a crop that magnifies resamples far fewer rows than it has.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "common/bilinear.h"
#include "common/element.h"
#include "cpu/crop/crop_readers.h"
#include "cpu/crop/resample_row.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kChannels = 4;      // channels that one unit of work does side by side, at most
constexpr int64_t kBand = 8;      // rows of the image that share a look at a box
constexpr int64_t kGrain = 4096;  // elements worth a thread

struct Task {
  const CropGradientParams* params;
  int64_t groups;
  int64_t bands;
  int64_t tiles;       // of the columns of a crop
  int64_t crop_bytes;  // of scratch memory

  int64_t units() const { return params->batch * groups * bands; }
  char* scratch(int64_t crop) const {
    return static_cast<char*>(params->scratch) + crop * crop_bytes;
  }
};

template <typename Real>
int64_t crop_bytes(const CropGradientParams& params) {
  return RowReaders<Real>::bytes(params.height, params.image_height) +
         divided_up(params.width, kColumns) * ColumnReaders<Real>::bytes(params.image_width);
}

// Who reads what, of the boxes [begin, end).
template <typename Real>
void find_readers(const Task& task, int64_t begin, int64_t end) {
  const CropGradientParams& params = *task.params;
  for (int64_t crop = begin; crop < end; ++crop) {
    const Box box = box_at(params.boxes, params.box_dtype, crop);
    Scratch scratch(task.scratch(crop));
    const Axis rows(box.y1, box.y2, params.height, params.image_height);
    RowReaders<Real>(scratch, params.height, params.image_height)
        .fill(rows, params.height, params.image_height);
    const Axis columns(box.x1, box.x2, params.width, params.image_width);
    for (int64_t tile = 0; tile < task.tiles; ++tile) {
      const int64_t first = tile * kColumns;
      const int64_t count = std::min<int64_t>(kColumns, params.width - first);
      ColumnReaders<Real>(scratch, params.image_width)
          .fill(columns, first, static_cast<int>(count), params.image_width);
    }
  }
}

// out (+)= weight0 * row0 + weight1 * row1.
template <typename Element, typename Real>
FVFAST_HOST_DEVICE void blend_pair(const typename Element::Storage* row0,
                                   const typename Element::Storage* row1, int64_t stride, int count,
                                   Real weight0, Real weight1, bool first, Real* __restrict out) {
  if (first) {
    for (int i = 0; i < count; ++i) {
      out[i] = weight0 * static_cast<Real>(Element::load(row0[i * stride])) +
               weight1 * static_cast<Real>(Element::load(row1[i * stride]));
    }
  } else {
    for (int i = 0; i < count; ++i) {
      out[i] += weight0 * static_cast<Real>(Element::load(row0[i * stride])) +
                weight1 * static_cast<Real>(Element::load(row1[i * stride]));
    }
  }
}

// out = the weighted sum of the rows of a gradient that read one row of the image. Rows go in
// pairs, because most often there are two.
template <typename Element, typename Real>
FVFAST_HOST_DEVICE void blend_rows(const typename Element::Storage* gradient, int64_t row_stride,
                                   int64_t stride, int count, const RowReaders<Real>& rows,
                                   int64_t pixel_row, Real* __restrict out) {
  const int64_t begin = rows.start[pixel_row], end = begin + rows.count[pixel_row];
  for (int64_t y = begin; y < end; y += 2) {
    const int64_t other = std::min(y + 1, end - 1);
    const Real weight0 = rows.weight(y, pixel_row);
    const Real weight1 = other > y ? rows.weight(other, pixel_row) : Real(0);
    const typename Element::Storage* row0 = gradient + y * row_stride;
    const typename Element::Storage* row1 = gradient + other * row_stride;
    if (stride == 1) {  // a constant: whole vectors
      blend_pair<Element>(row0, row1, 1, count, weight0, weight1, y == begin, out);
    } else {
      blend_pair<Element>(row0, row1, stride, count, weight0, weight1, y == begin, out);
    }
  }
}

// (columns, channels) to (channels, columns).
template <typename Real>
FVFAST_HOST_DEVICE void unweave(const Real* mixed, int channels, int columns,
                                Real (*lines)[2 * kColumns]) {
  if (channels == 3) {
    for (int x = 0; x < columns; ++x) {  // constants: the compiler unweaves whole vectors
      lines[0][x] = mixed[3 * x];
      lines[1][x] = mixed[3 * x + 1];
      lines[2][x] = mixed[3 * x + 2];
    }
    return;
  }
  for (int c = 0; c < channels; ++c) {
    for (int x = 0; x < columns; ++x) lines[c][x] = mixed[x * channels + c];
  }
}

template <typename Real>
FVFAST_HOST_DEVICE void add_magnitude(const Real* gradient, int64_t count, Real* alpha,
                                      int64_t stride) {
  for (int64_t x = 0; x < count; ++x) {
    const Real magnitude = std::fabs(gradient[x]);
    alpha[x * stride] += magnitude <= std::numeric_limits<Real>::max() ? magnitude : Real(0);
  }
}

// A band of rows of one image, of a few channels.
template <typename Real, typename Element, SimdLevel level>
FVFAST_HOST_DEVICE void gradient_unit(const Task& task, int64_t unit) {
  const CropGradientParams& params = *task.params;
  const int64_t first_row = unit % task.bands * kBand;
  const int64_t last_row = std::min(first_row + kBand, params.image_height);
  const int64_t first_channel = unit / task.bands % task.groups * kChannels;
  const int64_t image = unit / task.bands / task.groups;
  const int channels =
      static_cast<int>(std::min<int64_t>(kChannels, params.channels - first_channel));
  const int64_t* strides = params.gradient_strides;
  const bool woven =
      channels == params.channels && channels > 1 && strides[2] == 1 && strides[4] == channels;
  const int64_t plane = params.image_height * params.image_width;
  Real* pixels =
      static_cast<Real*>(params.image_gradient) + (image * params.channels + first_channel) * plane;
  for (int c = 0; c < channels; ++c) {
    std::fill(pixels + c * plane + first_row * params.image_width,
              pixels + c * plane + last_row * params.image_width, Real(0));
  }

  alignas(64) Real mixed[kChannels * kColumns];
  alignas(64) Real lines[kChannels][2 * kColumns] = {};
  for (int64_t crop = image * params.crops; crop < (image + 1) * params.crops; ++crop) {
    Scratch scratch(task.scratch(crop));
    const RowReaders<Real> rows(scratch, params.height, params.image_height);
    const int64_t begin = std::max(first_row, rows.range[0]);
    const int64_t end = std::min(last_row, rows.range[1]);
    if (begin >= end) continue;
    for (int64_t tile = 0; tile < task.tiles; ++tile) {
      const Readers<Real> readers = *ColumnReaders<Real>(scratch, params.image_width).readers;
      if (readers.taps == 0) continue;
      const int64_t column = tile * kColumns;
      const int columns = static_cast<int>(std::min<int64_t>(kColumns, params.width - column));
      const typename Element::Storage* gradient =
          static_cast<const typename Element::Storage*>(params.gradient) + image * strides[0] +
          (crop - image * params.crops) * strides[1] + first_channel * strides[2] +
          column * strides[4];
      for (int c = 0; c < channels; ++c)
        std::fill(lines[c] + columns, lines[c] + kColumns, Real(0));
      for (int64_t row = begin; row < end; ++row) {
        if (rows.count[row] == 0) continue;
        if (woven) {
          blend_rows<Element>(gradient, strides[3], 1, columns * channels, rows, row, mixed);
          unweave(mixed, channels, columns, lines);
        } else {
          for (int c = 0; c < channels; ++c) {
            blend_rows<Element>(gradient + c * strides[2], strides[3], strides[4], columns, rows,
                                row, lines[c]);
          }
        }
        Real* to = pixels + row * params.image_width + readers.first_pixel;
        for (int c = 0; c < channels; ++c) {
          gather_row<level>(lines[c], readers, to + c * plane);
        }
      }
    }
  }

  if (params.alpha == nullptr) return;
  Real* alpha = static_cast<Real*>(params.alpha) + image * params.alpha_strides[0] +
                first_channel * params.alpha_strides[1];
  for (int c = 0; c < channels; ++c) {
    for (int64_t row = first_row; row < last_row; ++row) {
      const Real* from = pixels + c * plane + row * params.image_width;
      Real* to = alpha + c * params.alpha_strides[1] + row * params.alpha_strides[2];
      if (params.alpha_strides[3] == 1) {  // a constant: whole vectors
        add_magnitude(from, params.image_width, to, 1);
      } else {
        add_magnitude(from, params.image_width, to, params.alpha_strides[3]);
      }
    }
  }
}

template <typename Real, typename Element, SimdLevel level>
FVFAST_HOST_DEVICE void gradient_units(const Task& task, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    gradient_unit<Real, Element, level>(task, unit);
  }
}

template <typename Real, typename Element>
void gradient_baseline(const Task& task, int64_t begin, int64_t end) {
  gradient_units<Real, Element, SimdLevel::kBaseline>(task, begin, end);
}

#if FVFAST_X86
template <typename Real, typename Element>
FVFAST_TARGET_AVX2 void gradient_avx2(const Task& task, int64_t begin, int64_t end) {
  gradient_units<Real, Element, SimdLevel::kAvx2>(task, begin, end);
}

template <typename Real, typename Element>
FVFAST_TARGET_AVX512 void gradient_avx512(const Task& task, int64_t begin, int64_t end) {
  gradient_units<Real, Element, SimdLevel::kAvx512>(task, begin, end);
}
#endif

using Kernel = void(const Task& task, int64_t begin, int64_t end);

template <typename Real, typename Element>
Kernel* kernel() {
#if FVFAST_X86
  constexpr Versions<Kernel> versions = {gradient_baseline<Real, Element>,
                                         gradient_avx2<Real, Element>,
                                         gradient_avx512<Real, Element>};
#else
  constexpr Versions<Kernel> versions = {gradient_baseline<Real, Element>, nullptr, nullptr};
#endif
  return versions.select();
}

template <typename Real>
Kernel* kernel(DType gradient) {
  switch (gradient) {
    case DType::kFloat32:
      return kernel<Real, Float32>();
    case DType::kFloat64:
      return kernel<Real, Float64>();
    case DType::kBFloat16:
      return kernel<Real, BFloat16>();
    case DType::kFloat16:
      return kernel<Real, Float16>();
  }
  return nullptr;
}

template <typename Real>
void run(const CropGradientParams& params) {
  const Task task = {&params, divided_up(params.channels, kChannels),
                     divided_up(params.image_height, kBand), divided_up(params.width, kColumns),
                     crop_bytes<Real>(params)};
  const int64_t crops = params.batch * params.crops;
  parallel_for(crops, std::max<int64_t>(1, kGrain / (params.height + params.width)),
               [&](int64_t begin, int64_t end) { find_readers<Real>(task, begin, end); });
  Kernel* units = kernel<Real>(params.gradient_dtype);
  // Boxes crowd in the middle of the image: bands that lie next to each other cost alike, so each
  // is handed out by itself.
  parallel_pieces(task.units(), task.units(),
                  [&](int64_t, int64_t begin, int64_t end) { units(task, begin, end); });
}

}  // namespace

int64_t crop_gradient_scratch(const CropGradientParams& params) {
  const int64_t bytes = params.image_dtype == DType::kFloat64 ? crop_bytes<double>(params)
                                                              : crop_bytes<float>(params);
  const int64_t crops = params.batch * params.crops;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return crops > kMost / bytes ? kMost : crops * bytes;
}

void crop_gradient(const CropGradientParams& params) {
  if (params.image_dtype == DType::kFloat64) return run<double>(params);
  run<float>(params);
}

}  // namespace fvfast::cpu
