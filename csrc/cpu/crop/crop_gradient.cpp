// The gradient of cropping with respect to the image, as a gather: each row of the image adds
// up the contributions of all crops, in a fixed order, so that threads share nothing and the bits
// are always the same.
//
// Like the crop it is separable. First the rows of a crop's gradient that read a row of the image
// are blended, then the columns: a crop that magnifies resamples far fewer rows than it has.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "common/bilinear.h"
#include "common/dispatch.h"
#include "cpu/crop/crop_readers.h"
#include "cpu/crop/resample_row.h"
#include "cpu/parallel.h"
#include "cpu/prefetch.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kChannels = 4;      // of a unit of work, at most
constexpr int64_t kBand = 8;      // rows of the image that are made together
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

// Finds the samples that read each pixel, of the boxes [begin, end).
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

// The number of the first row of a crop that neither a row of the image nor one before it reads.
template <typename Real>
FVFAST_HOST_DEVICE int64_t end_of_rows(const RowReaders<Real>& rows, int64_t pixel_row) {
  const int64_t count = rows.count[pixel_row];
  return count == 0 ? 0 : rows.start[pixel_row] + count;
}

// (columns, channels) to (channels, columns).
template <typename Real>
FVFAST_HOST_DEVICE void deinterleave(const Real* mixed, int channels, int columns,
                                     Real (*lines)[2 * kColumns]) {
  if (channels == 3) {
    // Constant strides: the compiler deinterleaves whole vectors.
    for (int x = 0; x < columns; ++x) {
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
FVFAST_HOST_DEVICE void add_absolute(const Real* gradient, int64_t count, Real* transparency,
                                     int64_t stride) {
  for (int64_t x = 0; x < count; ++x) {
    const Real absolute = std::fabs(gradient[x]);
    transparency[x * stride] += absolute <= std::numeric_limits<Real>::max() ? absolute : Real(0);
  }
}

// A band of rows of one image, of a few channels.
struct Band {
  int64_t image;
  int64_t first_channel;
  int channels;
  int64_t first_row, last_row;
  bool interleaved;  // the channels of a crop and its columns follow one another in memory

  FVFAST_HOST_DEVICE Band(const Task& task, int64_t unit) {
    const CropGradientParams& params = *task.params;
    first_row = unit % task.bands * kBand;
    last_row = std::min(first_row + kBand, params.image_height);
    first_channel = unit / task.bands % task.groups * kChannels;
    image = unit / task.bands / task.groups;
    channels = static_cast<int>(std::min<int64_t>(kChannels, params.channels - first_channel));
    const int64_t* strides = params.gradient_strides;
    interleaved =
        channels == params.channels && channels > 1 && strides[2] == 1 && strides[4] == channels;
  }
};

// A row of the image, blended along y from rows of a crop's gradient.
template <typename Real>
struct BlendedRow {
  alignas(64) Real mixed[kChannels * kColumns];  // (columns, channels)
  alignas(64) Real lines[kChannels][2 * kColumns] = {};
};

// Adds the contributions of some columns of one crop to the rows [begin, end) of `pixels`, the
// gradient of the image from the band's first channel on.
template <typename Element, SimdLevel level, typename Real>
FVFAST_HOST_DEVICE void add_columns(const CropGradientParams& params, const Band& band,
                                    const typename Element::Storage* gradient, int columns,
                                    const RowReaders<Real>& rows, const Readers<Real>& readers,
                                    int64_t begin, int64_t end, BlendedRow<Real>& blended,
                                    Real* pixels) {
  const int64_t* strides = params.gradient_strides;
  const int64_t plane = params.image_height * params.image_width;
  const int channels = band.channels;
  for (int c = 0; c < channels; ++c) {
    std::fill(blended.lines[c] + columns, blended.lines[c] + kColumns, Real(0));
  }
  const bool adjacent = band.interleaved || strides[4] == 1;
  for (int64_t row = begin; row < end; ++row) {
    if (adjacent && row + 1 < end) {
      // While this row is made, the memory sends what the next one needs in addition.
      const int64_t last = end_of_rows(rows, row + 1);
      for (int64_t y = end_of_rows(rows, row); y < last; ++y) {
        for (int c = 0; c < (band.interleaved ? 1 : channels); ++c) {
          prefetch(gradient + y * strides[3] + c * strides[2],
                   band.interleaved ? columns * channels : columns);
        }
      }
    }
    if (rows.count[row] == 0) continue;
    if (band.interleaved) {
      blend_rows<Element>(gradient, strides[3], 1, columns * channels, rows, row, blended.mixed);
      deinterleave(blended.mixed, channels, columns, blended.lines);
    } else {
      for (int c = 0; c < channels; ++c) {
        blend_rows<Element>(gradient + c * strides[2], strides[3], strides[4], columns, rows, row,
                            blended.lines[c]);
      }
    }
    Real* to = pixels + row * params.image_width + readers.first_pixel;
    for (int c = 0; c < channels; ++c) gather_row<level>(blended.lines[c], readers, to + c * plane);
  }
}

// Adds the absolute values of a band's gradient to the transparency.
template <typename Real>
FVFAST_HOST_DEVICE void add_to_transparency(const CropGradientParams& params, const Band& band,
                                            const Real* pixels) {
  const int64_t plane = params.image_height * params.image_width;
  Real* transparency = static_cast<Real*>(params.transparency) +
                       band.image * params.transparency_strides[0] +
                       band.first_channel * params.transparency_strides[1];
  for (int c = 0; c < band.channels; ++c) {
    for (int64_t row = band.first_row; row < band.last_row; ++row) {
      const Real* from = pixels + c * plane + row * params.image_width;
      Real* to =
          transparency + c * params.transparency_strides[1] + row * params.transparency_strides[2];
      if (params.transparency_strides[3] == 1) {  // a constant: whole vectors
        add_absolute(from, params.image_width, to, 1);
      } else {
        add_absolute(from, params.image_width, to, params.transparency_strides[3]);
      }
    }
  }
}

template <typename Real, typename Element, SimdLevel level>
FVFAST_HOST_DEVICE void make_band(const Task& task, const Band& band) {
  const CropGradientParams& params = *task.params;
  const int64_t* strides = params.gradient_strides;
  const int64_t plane = params.image_height * params.image_width;
  Real* pixels = static_cast<Real*>(params.image_gradient) +
                 (band.image * params.channels + band.first_channel) * plane;
  for (int c = 0; c < band.channels; ++c) {
    std::fill(pixels + c * plane + band.first_row * params.image_width,
              pixels + c * plane + band.last_row * params.image_width, Real(0));
  }

  BlendedRow<Real> blended;
  for (int64_t crop = 0; crop < params.crops; ++crop) {
    Scratch scratch(task.scratch(band.image * params.crops + crop));
    const RowReaders<Real> rows(scratch, params.height, params.image_height);
    const int64_t begin = std::max(band.first_row, rows.range[0]);
    const int64_t end = std::min(band.last_row, rows.range[1]);
    if (begin >= end) continue;
    for (int64_t tile = 0; tile < task.tiles; ++tile) {
      const Readers<Real> readers = *ColumnReaders<Real>(scratch, params.image_width).readers;
      if (readers.taps == 0) continue;
      const int64_t column = tile * kColumns;
      const int columns = static_cast<int>(std::min<int64_t>(kColumns, params.width - column));
      const typename Element::Storage* gradient =
          static_cast<const typename Element::Storage*>(params.gradient) + band.image * strides[0] +
          crop * strides[1] + band.first_channel * strides[2] + column * strides[4];
      add_columns<Element, level>(params, band, gradient, columns, rows, readers, begin, end,
                                  blended, pixels);
    }
  }
  if (params.transparency != nullptr) add_to_transparency(params, band, pixels);
}

template <typename Real, typename Element>
struct GradientBands {
  template <SimdLevel level>
  static FVFAST_HOST_DEVICE void run(const Task& task, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      make_band<Real, Element, level>(task, Band(task, unit));
    }
  }
};

template <typename Real>
void make_image_gradient(const CropGradientParams& params) {
  const Task task = {&params, divided_up(params.channels, kChannels),
                     divided_up(params.image_height, kBand), divided_up(params.width, kColumns),
                     crop_bytes<Real>(params)};
  const int64_t crops = params.batch * params.crops;
  parallel_for(crops, std::max<int64_t>(1, kGrain / (params.height + params.width)),
               [&](int64_t begin, int64_t end) { find_readers<Real>(task, begin, end); });
  const auto make_bands = with_element(params.gradient_dtype, [](auto element) {
    return select_version<GradientBands<Real, decltype(element)>>();
  });
  // Boxes crowd in the middle of the image, and neighboring bands cost about the same, so each is
  // handed out by itself.
  parallel_pieces(task.units(), task.units(),
                  [&](int64_t, int64_t begin, int64_t end) { make_bands(task, begin, end); });
}

}  // namespace

int64_t crop_gradient_scratch(const CropGradientParams& params) {
  const int64_t bytes =
      with_real(params.image_dtype, [&](auto real) { return crop_bytes<decltype(real)>(params); });
  const int64_t crops = params.batch * params.crops;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return crops > kMost / bytes ? kMost : crops * bytes;
}

void crop_gradient(const CropGradientParams& params) {
  with_real(params.image_dtype, [&](auto real) { make_image_gradient<decltype(real)>(params); });
}

}  // namespace fvfast::cpu
