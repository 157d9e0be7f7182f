// Crop, resize and add noise in one pass: each crop is written once, and read never.
//
// A row of the image is resampled along x when the first row of the crop needs it, and kept while
// more do: what remains for each row of the crop is to blend two rows in the L1 cache and to add
// noise. A crop that magnifies, as most do, resamples far fewer rows than it has.
#include <algorithm>
#include <cstdint>

#include "common/bilinear.h"
#include "common/element.h"
#include "cpu/crop/resample_row.h"
#include "cpu/noise_block.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kChannels = 4;          // channels that one unit of work does side by side, at most
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

// One row of a crop, (channels, columns), from arithmetic to memory.
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
    for (int x = 0; x < columns; ++x) {  // constants: the compiler weaves whole vectors
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
  // Rows of the image, resampled along x: two neighbours differ in parity.
  alignas(64) Real resampled[2][kChannels][kColumns];
  int64_t held[2] = {-1, -1};
  for (int x = 0; x < unit.columns; ++x) {
    if (x >= samples.begin && x < samples.end) continue;
    for (int slot = 0; slot < 2; ++slot) {
      for (int c = 0; c < unit.channels; ++c) resampled[slot][c][x] = 0;
    }
  }

  const bool noisy = params.std > 0 || params.uniform_width > 0;
  const PhiloxBlock philox(params.seed, params.step, noisy ? params.streams[unit.image] : 0);
  // Whole rows follow one another in the numbering of elements: their noise is made together.
  const int noise_rows = unit.columns == params.width
                             ? static_cast<int>(std::max<int64_t>(1, kNoise / unit.columns))
                             : 1;
  alignas(64) Real noise[kChannels][kNoise + kBlock];
  const Real* noise_row[kChannels] = {};
  alignas(64) Real lines[kChannels][kColumns];

  for (int y = 0; y < unit.rows; ++y) {
    const Sample row = rows.sample(unit.row + y);
    if (row.inside && samples.begin < samples.end) {
      const int64_t upper = std::min(row.lower + 1, params.image_height - 1);
      for (const int64_t pixel_row : {row.lower, upper}) {
        const int slot = static_cast<int>(pixel_row % 2);
        if (held[slot] == pixel_row) continue;
        held[slot] = pixel_row;
        for (int c = 0; c < unit.channels; ++c) {
          resample_row<level>(
              image + c * params.image_strides[1] + pixel_row * params.image_strides[2],
              params.image_width, params.image_strides[3], samples, resampled[slot][c]);
        }
      }
      const Real share = static_cast<Real>(row.share);
      for (int c = 0; c < unit.channels; ++c) {
        const Real* low = resampled[row.lower % 2][c];
        const Real* high = resampled[upper % 2][c];
        for (int x = 0; x < unit.columns; ++x) lines[c][x] = low[x] + share * (high[x] - low[x]);
      }
    } else {
      for (int c = 0; c < unit.channels; ++c) std::fill_n(lines[c], unit.columns, Real(0));
    }
    if (noisy) {
      for (int c = 0; c < unit.channels; ++c) {
        if (y % noise_rows == 0) {
          const int64_t count = int64_t{std::min(noise_rows, unit.rows - y)} * unit.columns;
          const int64_t plane = unit.crop * params.channels + unit.channel + c;
          const int64_t element =
              (plane * params.height + unit.row + y) * params.width + unit.column;
          noise_row[c] =
              fill_noise<Real, level>(philox, element, count, static_cast<Real>(params.std),
                                      static_cast<Real>(params.uniform_width), noise[c]);
        }
        for (int x = 0; x < unit.columns; ++x) lines[c][x] += noise_row[c][x];
        noise_row[c] += unit.columns;
      }
    }
    store_row<Element>(lines, unit.channels, unit.columns, out + y * params.out_strides[3],
                       params.out_strides[2], params.out_strides[4]);
  }
}

template <typename Real, typename Element, SimdLevel level>
FVFAST_HOST_DEVICE void crop_units(const Task& task, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) {
    crop_unit<Real, Element, level>(*task.params, Unit(task, index));
  }
}

template <typename Real, typename Element>
void crop_baseline(const Task& task, int64_t begin, int64_t end) {
  crop_units<Real, Element, SimdLevel::kBaseline>(task, begin, end);
}

#if FVFAST_X86
template <typename Real, typename Element>
FVFAST_TARGET_AVX2 void crop_avx2(const Task& task, int64_t begin, int64_t end) {
  crop_units<Real, Element, SimdLevel::kAvx2>(task, begin, end);
}

template <typename Real, typename Element>
FVFAST_TARGET_AVX512 void crop_avx512(const Task& task, int64_t begin, int64_t end) {
  crop_units<Real, Element, SimdLevel::kAvx512>(task, begin, end);
}
#endif

using Kernel = void(const Task& task, int64_t begin, int64_t end);

template <typename Real, typename Element>
Kernel* kernel() {
#if FVFAST_X86
  constexpr Versions<Kernel> versions = {crop_baseline<Real, Element>, crop_avx2<Real, Element>,
                                         crop_avx512<Real, Element>};
#else
  constexpr Versions<Kernel> versions = {crop_baseline<Real, Element>, nullptr, nullptr};
#endif
  return versions.select();
}

template <typename Real>
Kernel* kernel(DType out) {
  switch (out) {
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

}  // namespace

void crop_resize(const CropParams& params) {
  const Task task = {&params, divided_up(params.channels, kChannels),
                     divided_up(params.height, kBand), divided_up(params.width, kColumns)};
  Kernel* run = params.image_dtype == DType::kFloat64 ? kernel<double>(params.out_dtype)
                                                      : kernel<float>(params.out_dtype);
  const int64_t unit_elements = std::min<int64_t>(params.channels, kChannels) *
                                std::min(params.height, kBand) *
                                std::min<int64_t>(params.width, kColumns);
  parallel_for(task.units(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, unit_elements)),
               [&](int64_t begin, int64_t end) { run(task, begin, end); });
}

}  // namespace fvfast::cpu
