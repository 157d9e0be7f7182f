// The inverse transform to the image, and back: standardization, colors, sigmoid, range.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/macros.h"
#include "cpu/colors.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kBlock = 64;              // pixels
constexpr int64_t kTile = 16 * kBlock;  // pixels of one unit of work, at most
constexpr int64_t kGrain = 8 * kTile;   // pixels worth a thread

// Planes that are mixed: the three colors, or each plane by itself.
int planes_of(bool has_colors) { return has_colors ? 3 : 1; }

struct Groups {
  int64_t pixels;  // of one plane
  int64_t tiles;   // of one group
  int64_t tiles_in_all;
  int64_t per_image;

  Groups(const SpectrumSizes& sizes, bool has_colors)
      : pixels(sizes.height * sizes.width),
        tiles(divided_up(pixels, kTile)),
        tiles_in_all(sizes.images * sizes.channels / planes_of(has_colors) * tiles),
        per_image(sizes.channels / planes_of(has_colors)) {}
};

// What the pixels of one image have in common.
template <typename Real, int planes>
struct Forward {
  Real mean;
  Real mix[planes][planes];  // standardization and colors: row i is what plane i adds
  Real low, width;

  FVFAST_HOST_DEVICE Forward(const SpectrumImageParams& params, int64_t image) {
    const SpectrumStatistics& statistics = params.statistics[image];
    const double scale = 1 / (statistics.image_std + params.epsilon);
    mean = static_cast<Real>(statistics.image_mean);
    low = static_cast<Real>(params.low);
    width = static_cast<Real>(params.high - params.low);
    for (int i = 0; i < planes; ++i) {
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? scale * params.colors[i][j] : scale);
      }
    }
  }

  // `count` <= kBlock pixels in place. Loads and stores are loops of their own, so that the
  // compiler sees that no store changes a later load.
  FVFAST_HOST_DEVICE void block(Real* image, int64_t plane_stride, int count) const {
    Real values[planes][kBlock];
    for (int i = 0; i < planes; ++i) {
      for (int p = 0; p < count; ++p) values[i][p] = image[i * plane_stride + p] - mean;
    }
    mix_into_range(values, mix, low, width, image, plane_stride, count);
  }
};

template <typename Real, int planes>
struct ImageTiles {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const SpectrumImageParams& params, int64_t begin,
                                     int64_t end) {
    const Groups groups(params.sizes, planes == 3);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t group = unit / groups.tiles;
      const Forward<Real, planes> forward(params, group / groups.per_image);
      Real* image = static_cast<Real*>(params.image) + group * planes * groups.pixels;
      int64_t pixel = unit % groups.tiles * kTile;
      const int64_t last = std::min(pixel + kTile, groups.pixels);
      for (; pixel + kBlock <= last; pixel += kBlock) {  // a constant count: whole vectors
        forward.block(image + pixel, groups.pixels, kBlock);
      }
      if (pixel < last) forward.block(image + pixel, groups.pixels, static_cast<int>(last - pixel));
    }
  }
};

// The slope of image = low + (high - low) sigmoid(x) is
// (image - low) (high - image) / (high - low).
template <typename Real, int planes>
struct Backward {
  Real mix[planes][planes];  // colors, divided by the width of the range
  Real low, high;

  FVFAST_HOST_DEVICE explicit Backward(const SpectrumImageGradientParams& params)
      : low(static_cast<Real>(params.low)), high(static_cast<Real>(params.high)) {
    const double scale = 1 / (params.high - params.low);
    for (int i = 0; i < planes; ++i) {
      for (int j = 0; j < planes; ++j) {
        mix[i][j] = static_cast<Real>(planes == 3 ? scale * params.colors[i][j] : scale);
      }
    }
  }

  FVFAST_HOST_DEVICE void block(const Real* gradient, const Real* image, Real* out,
                                int64_t plane_stride, int count) const {
    Real values[planes][kBlock];
    before_range(gradient, image, low, high, plane_stride, values, count);
    for (int i = 0; i < planes; ++i) unmix(values, mix[i], out + i * plane_stride, count);
  }
};

template <typename Real, int planes>
struct GradientTiles {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const SpectrumImageGradientParams& params, int64_t begin,
                                     int64_t end) {
    const Groups groups(params.sizes, planes == 3);
    const Backward<Real, planes> backward(params);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t offset = unit / groups.tiles * planes * groups.pixels;
      const Real* gradient = static_cast<const Real*>(params.gradient) + offset;
      const Real* image = static_cast<const Real*>(params.image) + offset;
      Real* out = static_cast<Real*>(params.out) + offset;
      int64_t pixel = unit % groups.tiles * kTile;
      const int64_t last = std::min(pixel + kTile, groups.pixels);
      for (; pixel + kBlock <= last; pixel += kBlock) {
        backward.block(gradient + pixel, image + pixel, out + pixel, groups.pixels, kBlock);
      }
      if (pixel < last) {
        backward.block(gradient + pixel, image + pixel, out + pixel, groups.pixels,
                       static_cast<int>(last - pixel));
      }
    }
  }
};

// Kernel<Real, planes> for the type and the colors of the params, over all tiles.
template <template <typename Real, int planes> class Kernel, typename Params>
void run_on_tiles(const Params& params) {
  const auto kernel = with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    return params.has_colors ? select_version<Kernel<Real, 3>>()
                             : select_version<Kernel<Real, 1>>();
  });
  const Groups groups(params.sizes, params.has_colors);
  const int64_t tile_pixels = std::max<int64_t>(1, std::min(groups.pixels, kTile));
  const int planes = planes_of(params.has_colors);
  parallel_for(groups.tiles_in_all, std::max<int64_t>(1, kGrain / (planes * tile_pixels)),
               [&](int64_t begin, int64_t end) { kernel(params, begin, end); });
}

}  // namespace

void spectrum_image(const SpectrumImageParams& params) { run_on_tiles<ImageTiles>(params); }

void spectrum_image_gradient(const SpectrumImageGradientParams& params) {
  run_on_tiles<GradientTiles>(params);
}

}  // namespace fvfast::cpu
