// Crops, resizes and adds noise in one pass: each crop is written once and never read.
//
// A row of the image is resampled along x when the first row of the crop needs it, and kept as long
// as others do. All that remains for each row of the crop is to blend two rows in the L1 cache and
// to add noise. A crop that magnifies, as most do, resamples far fewer rows than it has.
#include <algorithm>
#include <cstdint>

#include "common/bilinear.h"
#include "common/dispatch.h"
#include "cpu/crop/resample_row.h"
#include "cpu/noise_block.h"
#include "cpu/parallel.h"
#include "cpu/prefetch.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kChannels = 4;          // of a unit of work, at most
constexpr int64_t kBand = 32;         // rows of a unit, at most
constexpr int64_t kNoise = 1024;      // elements whose noise is made at once, at most
constexpr int64_t kGrain = 8 * 1024;  // elements worth a thread
static_assert(kNoise >= kColumns, "noise is made for a whole row at least");

// The output as units of work: a crop's channels, rows and columns are cut into groups.
struct Task {
  const CropParams* params;
  int64_t groups;
  int64_t bands;
  int64_t tiles;

  int64_t units() const { return params->batch * params->crops * groups * bands * tiles; }
};

// What a unit covers.
struct Unit {
  int64_t image, crop, channel, row, column;
  int channels, rows, columns;

  Unit(const Task& task, int64_t index) {
    const CropParams& params = *task.params;
    column = index % task.tiles * kColumns;
    index /= task.tiles;
    row = index % task.bands * kBand;
    index /= task.bands;
    channel = index % task.groups * kChannels;
    index /= task.groups;
    crop = index % params.crops;
    image = index / params.crops;
    channels = static_cast<int>(std::min<int64_t>(kChannels, params.channels - channel));
    rows = static_cast<int>(std::min(kBand, params.height - row));
    columns = static_cast<int>(std::min<int64_t>(kColumns, params.width - column));
  }
};

// Writes one row of a crop, (channels, columns), in the type of the output.
template <typename Element, typename Real>
FVFAST_HOST_DEVICE void store_row(const Real (*lines)[kColumns], int channels, int columns,
                                  typename Element::Storage* __restrict out, int64_t channel_stride,
                                  int64_t column_stride) {
  using To = typename Element::Real;
  if (column_stride == 1) {
    for (int c = 0; c < channels; ++c) {
      typename Element::Storage* to = out + c * channel_stride;
      for (int x = 0; x < columns; ++x) to[x] = Element::store(static_cast<To>(lines[c][x]));
    }
  } else if (channels == 3 && column_stride == 3 && channel_stride == 1) {
    for (int x = 0; x < columns; ++x) {  // constant strides: the compiler interleaves whole vectors
      out[3 * x] = Element::store(static_cast<To>(lines[0][x]));
      out[3 * x + 1] = Element::store(static_cast<To>(lines[1][x]));
      out[3 * x + 2] = Element::store(static_cast<To>(lines[2][x]));
    }
  } else {
    for (int x = 0; x < columns; ++x) {
      for (int c = 0; c < channels; ++c) {
        out[x * column_stride + c * channel_stride] = Element::store(static_cast<To>(lines[c][x]));
      }
    }
  }
}

// Two rows of an image, resampled along x. Neighbors differ in parity, so each has its own slot.
template <typename Real>
struct ResampledRows {
  alignas(64) Real values[2][kChannels][kColumns];
  int64_t held[2] = {-1, -1};  // the row of the image in each slot

  // Columns outside the image stay 0.
  FVFAST_HOST_DEVICE void clear_outside(const Samples<Real>& samples, int columns, int channels) {
    for (int x = 0; x < columns; ++x) {
      if (x >= samples.begin && x < samples.end) continue;
      for (int slot = 0; slot < 2; ++slot) {
        for (int c = 0; c < channels; ++c) values[slot][c][x] = 0;
      }
    }
  }

  // Resamples a row of the image, from its first channel on, unless it is held already. Asks for
  // the row below, which most often comes next.
  template <SimdLevel level>
  FVFAST_HOST_DEVICE void hold(const CropParams& params, const Real* image, int64_t pixel_row,
                               const Samples<Real>& samples, int channels) {
    const int slot = static_cast<int>(pixel_row % 2);
    if (held[slot] == pixel_row) return;
    held[slot] = pixel_row;
    const auto [left, right] =
        std::minmax(samples.lower[samples.begin], samples.lower[samples.end - 1]);
    for (int c = 0; c < channels; ++c) {
      const Real* row = image + c * params.image_strides[1] + pixel_row * params.image_strides[2];
      if (pixel_row + 1 < params.image_height) {
        prefetch(row + params.image_strides[2] + left, right - left + 2);
      }
      resample_row<level>(row, params.image_width, params.image_strides[3], samples,
                          values[slot][c]);
    }
  }
};

// The noise of the channels of a unit. Whole rows are numbered one after the other, so that the
// noise of several can be made at once.
template <typename Real>
struct UnitNoise {
  const CropParams& params;
  const Unit& unit;
  const bool any;
  const PhiloxBlock philox;
  const int rows_at_once;
  alignas(64) Real noise[kChannels][kNoise + kBlock];
  const Real* row[kChannels] = {};  // that of the next row

  FVFAST_HOST_DEVICE UnitNoise(const CropParams& params_, const Unit& unit_)
      : params(params_),
        unit(unit_),
        any(params.std > 0 || params.uniform_width > 0),
        philox(params.seed, params.step, any ? params.identities[unit.image] : 0, Purpose::kNoise),
        rows_at_once(unit.columns == params.width
                         ? static_cast<int>(std::max<int64_t>(1, kNoise / unit.columns))
                         : 1) {}

  // Row `y` of the unit; rows come in order.
  FVFAST_HOST_DEVICE void add(int y, Real (*lines)[kColumns]) {
    for (int c = 0; c < unit.channels; ++c) {
      if (y % rows_at_once == 0) {
        const int64_t count = int64_t{std::min(rows_at_once, unit.rows - y)} * unit.columns;
        const int64_t plane = unit.crop * params.channels + unit.channel + c;
        const int64_t element = (plane * params.height + unit.row + y) * params.width + unit.column;
        row[c] = fill_noise<Real>(philox, element, count, static_cast<Real>(params.std),
                                  static_cast<Real>(params.uniform_width), noise[c]);
      }
      for (int x = 0; x < unit.columns; ++x) lines[c][x] += row[c][x];
      row[c] += unit.columns;
    }
  }
};

template <typename Real, typename Element, SimdLevel level>
FVFAST_HOST_DEVICE void crop_unit(const CropParams& params, const Unit& unit) {
  const Box box = box_at(params.boxes, params.box_dtype, unit.image * params.crops + unit.crop);
  const Axis rows(box.y1, box.y2, params.height, params.image_height);
  const Axis columns(box.x1, box.x2, params.width, params.image_width);
  const Real* image = static_cast<const Real*>(params.images) +
                      unit.image * params.image_strides[0] + unit.channel * params.image_strides[1];
  typename Element::Storage* out =
      static_cast<typename Element::Storage*>(params.out) + unit.image * params.out_strides[0] +
      unit.crop * params.out_strides[1] + unit.channel * params.out_strides[2] +
      unit.row * params.out_strides[3] + unit.column * params.out_strides[4];

  Samples<Real> samples;
  place_samples(columns, unit.column, unit.columns, params.image_width, params.image_strides[3],
                samples);
  ResampledRows<Real> resampled;
  resampled.clear_outside(samples, unit.columns, unit.channels);
  UnitNoise<Real> noise(params, unit);
  alignas(64) Real lines[kChannels][kColumns];

  for (int y = 0; y < unit.rows; ++y) {
    const Sample row = rows.sample(unit.row + y);
    if (row.inside && samples.begin < samples.end) {
      const int64_t upper = std::min(row.lower + 1, params.image_height - 1);
      for (const int64_t pixel_row : {row.lower, upper}) {
        resampled.template hold<level>(params, image, pixel_row, samples, unit.channels);
      }
      const Real share = static_cast<Real>(row.share);
      for (int c = 0; c < unit.channels; ++c) {
        const Real* low = resampled.values[row.lower % 2][c];
        const Real* high = resampled.values[upper % 2][c];
        for (int x = 0; x < unit.columns; ++x) lines[c][x] = low[x] + share * (high[x] - low[x]);
      }
    } else {
      for (int c = 0; c < unit.channels; ++c) std::fill_n(lines[c], unit.columns, Real(0));
    }
    if (noise.any) noise.add(y, lines);
    store_row<Element>(lines, unit.channels, unit.columns, out + y * params.out_strides[3],
                       params.out_strides[2], params.out_strides[4]);
  }
}

template <typename Real, typename Element>
struct CropUnits {
  template <SimdLevel level>
  static FVFAST_HOST_DEVICE void run(const Task& task, int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      crop_unit<Real, Element, level>(*task.params, Unit(task, index));
    }
  }
};

}  // namespace

void crop_resize(const CropParams& params) {
  const Task task = {&params, divided_up(params.channels, kChannels),
                     divided_up(params.height, kBand), divided_up(params.width, kColumns)};
  const auto crop_units = with_real(params.image_dtype, [&](auto real) {
    return with_element(params.out_dtype, [](auto element) {
      return select_version<CropUnits<decltype(real), decltype(element)>>();
    });
  });
  const int64_t unit_elements = std::min<int64_t>(params.channels, kChannels) *
                                std::min(params.height, kBand) *
                                std::min<int64_t>(params.width, kColumns);
  parallel_for(task.units(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, unit_elements)),
               [&](int64_t begin, int64_t end) { crop_units(task, begin, end); });
}

}  // namespace fvfast::cpu
