// The inverse transform to the image, and back: standardisation, colours, sigmoid, range.
#include <algorithm>
#include <cstdint>

#include "common/macros.h"
#include "common/sigmoid.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kBlock = 64;              // pixels
constexpr int64_t kTile = 16 * kBlock;  // pixels of one unit of work, at most
constexpr int64_t kGrain = 8 * kTile;   // pixels worth a thread

// Planes that are mixed together: the three colours, or each plane for itself.
int planes_of(bool has_colors) { return has_colors ? 3 : 1; }

struct Groups {
  int64_t pixels;  // of one plane
  int64_t tiles;   // of one group
  int64_t units;   // tiles in all
  int64_t per_image;

  Groups(const SpectrumSizes& sizes, bool has_colors)
      : pixels(sizes.height * sizes.width),
        tiles((pixels + kTile - 1) / kTile),
        units(sizes.images * sizes.channels / planes_of(has_colors) * tiles),
        per_image(sizes.channels / planes_of(has_colors)) {}
};

// What the pixels of one image have in common.
template <typename Real, int planes>
struct Forward {
  Real mean;
  Real mix[planes][planes];  // standardisation and colours: row i is what plane i adds
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

  // `count` <= kBlock pixels in place. The loops are apart because the compiler need not wonder
  // then whether a store changes a later load.
  FVFAST_HOST_DEVICE void block(Real* image, int64_t plane_stride, int count) const {
    Real values[planes][kBlock];
    for (int i = 0; i < planes; ++i) {
      for (int p = 0; p < count; ++p) values[i][p] = image[i * plane_stride + p] - mean;
    }
    for (int j = 0; j < planes; ++j) {
      Real* out = image + j * plane_stride;
      for (int p = 0; p < count; ++p) {
        Real sum = values[0][p] * mix[0][j];
        for (int i = 1; i < planes; ++i) sum += values[i][p] * mix[i][j];
        out[p] = sigmoid_of(sum) * width + low;
      }
    }
  }
};

template <typename Real, int planes>
FVFAST_HOST_DEVICE void image_units(const SpectrumImageParams& params, int64_t begin, int64_t end) {
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

// The slope of image = low + (high - low) sigmoid(x) is (image - low) (high - image) / (high -
// low).
template <typename Real, int planes>
struct Backward {
  Real mix[planes][planes];  // colours, divided by the width of the range
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
    for (int j = 0; j < planes; ++j) {
      for (int p = 0; p < count; ++p) {
        const Real value = image[j * plane_stride + p];
        values[j][p] = gradient[j * plane_stride + p] * ((value - low) * (high - value));
      }
    }
    for (int i = 0; i < planes; ++i) {
      for (int p = 0; p < count; ++p) {
        Real sum = values[0][p] * mix[i][0];
        for (int j = 1; j < planes; ++j) sum += values[j][p] * mix[i][j];
        out[i * plane_stride + p] = sum;
      }
    }
  }
};

template <typename Real, int planes>
FVFAST_HOST_DEVICE void gradient_units(const SpectrumImageGradientParams& params, int64_t begin,
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

// Both kernels at one level: overloads tell them apart.
template <typename Real, int planes>
FVFAST_HOST_DEVICE void units(const SpectrumImageParams& params, int64_t begin, int64_t end) {
  image_units<Real, planes>(params, begin, end);
}

template <typename Real, int planes>
FVFAST_HOST_DEVICE void units(const SpectrumImageGradientParams& params, int64_t begin,
                              int64_t end) {
  gradient_units<Real, planes>(params, begin, end);
}

template <typename Params, typename Real, int planes>
void units_baseline(const Params& params, int64_t begin, int64_t end) {
  units<Real, planes>(params, begin, end);
}

#if FVFAST_X86
template <typename Params, typename Real, int planes>
FVFAST_TARGET_AVX2 void units_avx2(const Params& params, int64_t begin, int64_t end) {
  units<Real, planes>(params, begin, end);
}

template <typename Params, typename Real, int planes>
FVFAST_TARGET_AVX512 void units_avx512(const Params& params, int64_t begin, int64_t end) {
  units<Real, planes>(params, begin, end);
}
#endif

template <typename Params, typename Real, int planes>
void run(const Params& params) {
  using Kernel = void(const Params& params, int64_t begin, int64_t end);
#if FVFAST_X86
  constexpr Versions<Kernel> versions = {units_baseline<Params, Real, planes>,
                                         units_avx2<Params, Real, planes>,
                                         units_avx512<Params, Real, planes>};
#else
  constexpr Versions<Kernel> versions = {units_baseline<Params, Real, planes>, nullptr, nullptr};
#endif
  Kernel* const kernel = versions.select();
  const Groups groups(params.sizes, planes == 3);
  const int64_t unit_pixels = std::max<int64_t>(1, std::min(groups.pixels, kTile));
  parallel_for(groups.units, std::max<int64_t>(1, kGrain / (planes * unit_pixels)),
               [&](int64_t begin, int64_t end) { kernel(params, begin, end); });
}

template <typename Params>
void run_any(const Params& params) {
  const bool is_double = params.dtype == DType::kFloat64;
  if (params.has_colors) {
    is_double ? run<Params, double, 3>(params) : run<Params, float, 3>(params);
  } else {
    is_double ? run<Params, double, 1>(params) : run<Params, float, 1>(params);
  }
}

}  // namespace

void spectrum_image(const SpectrumImageParams& params) { run_any(params); }

void spectrum_image_gradient(const SpectrumImageGradientParams& params) { run_any(params); }

}  // namespace fvfast::cpu
