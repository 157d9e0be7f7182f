// Phase to half spectrum: standardize the phase, take sine and cosine, multiply by the magnitude.
// And the mean and deviation of an image that does not exist yet.
//
// The image is standardized over all its P = C H W values, so its statistics are wanted before the
// pass that makes its colors. Parseval's theorem gives them. With the half spectrum X_c of channel
// c, whose inverse transform divides by H W,
//
//   sum over pixels of the image  = sum_c Re X_c[0, 0]
//   sum over pixels of its square = (2 sum_{0 < kx < W/2} |X|^2 + sum_{kx on an edge} |h|^2) / H W
//
// The edges are kx = 0 and, for an even W, kx = W / 2: columns which hold both members of a pair of
// conjugate frequencies, and of which the inverse transform keeps the conjugate-symmetric part
// h[ky] = (X[ky] + conj X[-ky]) / 2. Inside, |X| is the magnitude, whatever the phase. The variance
// leaves the bins [0, 0] out of the second sum and adds their spread around their mean, instead of
// subtracting the square of the image's mean, which may cancel.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/dispatch.h"
#include "common/macros.h"
#include "common/sincos.h"
#include "cpu/phase/sums.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kBlock = 64;  // bins whose angles are reduced before their sines are computed

// Sums of one part.
enum { kPhaseSum = 0, kPhaseSquares = 1, kInsideEnergy = 2 };

// The sums of the phase count from its first element, so that a large mean costs no accuracy.
template <typename Real>
double origin_of(const PhaseSpectrumParams& params, int64_t image) {
  if (params.phase_sums != nullptr) return 0;
  return static_cast<const Real*>(params.phase)[image * params.sizes.bins()];
}

template <typename Real>
struct PhaseSums {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const PhaseSpectrumParams& params, int64_t begin,
                                     int64_t end) {
    const int64_t bins = params.sizes.bins();
    for (int64_t unit = begin; unit < end; ++unit) {
      const Part part = part_of(unit, bins);
      const Real* phase = static_cast<const Real*>(params.phase) + part.image * bins;
      const double origin = origin_of<Real>(params, part.image);
      double sums[kSumLanes] = {}, squares[kSumLanes] = {};
      int64_t i = part.begin;
      for (; i + kSumLanes <= part.end; i += kSumLanes) {
        for (int lane = 0; lane < kSumLanes; ++lane) {
          const double value = static_cast<double>(phase[i + lane]) - origin;
          sums[lane] += value;
          squares[lane] += value * value;
        }
      }
      for (int lane = 0; i < part.end; ++i, ++lane) {
        const double value = static_cast<double>(phase[i]) - origin;
        sums[lane] += value;
        squares[lane] += value * value;
      }
      double* out = sums_of_part(params.scratch, part.image, part.index);
      out[kPhaseSum] = sum_of_lanes(sums);
      out[kPhaseSquares] = sum_of_lanes(squares);
    }
  }
};

// out = magnitude * exp(i (phase - mean) * scale), `count` <= kBlock bins.
FVFAST_HOST_DEVICE void polar_block(const float* magnitude, const float* phase, double mean,
                                    double scale, float* out, int count) {
  const double quarters = scale * kQuartersPerRadian;
  float rest[kBlock];
  int32_t whole[kBlock];
  for (int i = 0; i < count; ++i) {
    whole[i] = split_quarters((static_cast<double>(phase[i]) - mean) * quarters, &rest[i]);
  }
  for (int i = 0; i < count; ++i) {
    float sine, cosine;
    sincos_of_quarters(whole[i], rest[i], &sine, &cosine);
    out[2 * i] = magnitude[i] * cosine;
    out[2 * i + 1] = magnitude[i] * sine;
  }
}

// In double, for checking gradients: accuracy matters, speed does not.
FVFAST_HOST_DEVICE void polar_block(const double* magnitude, const double* phase, double mean,
                                    double scale, double* out, int count) {
  for (int i = 0; i < count; ++i) {
    const double angle = (phase[i] - mean) * scale;
    out[2 * i] = magnitude[i] * std::cos(angle);
    out[2 * i + 1] = magnitude[i] * std::sin(angle);
  }
}

template <typename Real>
FVFAST_HOST_DEVICE double sum_of_squares(const Real* values, int64_t count) {
  double sums[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= count; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) {
      const double value = static_cast<double>(values[i + lane]);
      sums[lane] += value * value;
    }
  }
  for (int lane = 0; i < count; ++i, ++lane) {
    const double value = static_cast<double>(values[i]);
    sums[lane] += value * value;
  }
  return sum_of_lanes(sums);
}

template <typename Real>
struct PolarParts {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const PhaseSpectrumParams& params, int64_t begin,
                                     int64_t end) {
    const SpectrumSizes& sizes = params.sizes;
    const int64_t half = sizes.half();
    const Real* magnitude = static_cast<const Real*>(params.magnitude);
    for (int64_t unit = begin; unit < end; ++unit) {
      const Part rows = part_of(unit, sizes.rows());
      const SpectrumStatistics& statistics = params.statistics[rows.image];
      const double scale = 1 / (statistics.phase_std + params.epsilon);
      const Real* phase = static_cast<const Real*>(params.phase) + rows.image * sizes.bins();
      Real* out = static_cast<Real*>(params.spectrum) + 2 * rows.image * sizes.bins();
      const int64_t last = rows.end * half;
      int64_t i = rows.begin * half;
      for (; i + kBlock <= last; i += kBlock) {  // a constant count: whole vectors
        polar_block(magnitude + i, phase + i, statistics.phase_mean, scale, out + 2 * i, kBlock);
      }
      if (i < last) {
        polar_block(magnitude + i, phase + i, statistics.phase_mean, scale, out + 2 * i,
                    static_cast<int>(last - i));
      }

      if (rows.image > 0) continue;  // the images share the magnitude
      double inside = 0;
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        inside += sum_of_squares(magnitude + row * half + 1, (sizes.width - 1) / 2);
      }
      sums_of_part(params.scratch, 0, rows.index)[kInsideEnergy] = inside;
    }
  }
};

void phase_statistics(const PhaseSpectrumParams& params, int64_t image, double origin) {
  double sum, squares;
  if (params.phase_sums != nullptr) {
    sum = params.phase_sums[2 * image];
    squares = params.phase_sums[2 * image + 1];
  } else {
    sum = sum_of_parts(params.scratch, image, kPhaseSum);
    squares = sum_of_parts(params.scratch, image, kPhaseSquares);
  }
  const double count = static_cast<double>(params.sizes.bins());
  const double mean = sum / count;
  const double variance = squares / count - mean * mean;
  SpectrumStatistics& statistics = params.statistics[image];
  statistics.phase_mean = origin + mean;
  statistics.phase_std = std::sqrt(variance < 0 ? 0 : variance);  // NaN passes
}

// Energy of what the inverse transform keeps of an edge column, without the bin [0, 0].
template <typename Real>
double edge_energy(const Real* spectrum, const SpectrumSizes& sizes, int64_t column) {
  double energy = 0;
  for (int64_t channel = 0; channel < sizes.channels; ++channel) {
    const Real* first = spectrum + 2 * (channel * sizes.height * sizes.half() + column);
    for (int64_t y = column == 0 ? 1 : 0; y < sizes.height; ++y) {
      const Real* bin = first + 2 * y * sizes.half();
      const Real* mirror = first + 2 * ((sizes.height - y) % sizes.height) * sizes.half();
      const double real = 0.5 * (static_cast<double>(bin[0]) + static_cast<double>(mirror[0]));
      const double imaginary = 0.5 * (static_cast<double>(bin[1]) - static_cast<double>(mirror[1]));
      energy += real * real + imaginary * imaginary;
    }
  }
  return energy;
}

template <typename Real>
void image_statistics(const PhaseSpectrumParams& params, int64_t image, double inside) {
  const SpectrumSizes& sizes = params.sizes;
  const Real* spectrum = static_cast<const Real*>(params.spectrum) + 2 * image * sizes.bins();
  const int64_t channel_stride = 2 * sizes.height * sizes.half();
  double sum = 0;
  for (int64_t channel = 0; channel < sizes.channels; ++channel) {
    sum += static_cast<double>(spectrum[channel * channel_stride]);
  }
  const double mean = sum / static_cast<double>(sizes.channels);
  double energy = 2 * inside + edge_energy(spectrum, sizes, 0);
  if (sizes.width % 2 == 0) energy += edge_energy(spectrum, sizes, sizes.width / 2);
  for (int64_t channel = 0; channel < sizes.channels; ++channel) {
    const double deviation = static_cast<double>(spectrum[channel * channel_stride]) - mean;
    energy += deviation * deviation;
  }
  const double plane = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
  const double pixels = static_cast<double>(sizes.pixels());
  params.statistics[image].image_mean = sum / pixels;
  params.statistics[image].image_std = std::sqrt(energy / (plane * pixels));
}

template <typename Real>
void make_phase_spectrum(const PhaseSpectrumParams& params) {
  const int64_t images = params.sizes.images, bins = params.sizes.bins();
  if (params.phase_sums == nullptr) {
    const auto sum_phase = select_version<PhaseSums<Real>>();
    parallel_parts(images, bins,
                   [&](int64_t begin, int64_t end) { sum_phase(params, begin, end); });
  }
  for (int64_t image = 0; image < images; ++image) {
    phase_statistics(params, image, origin_of<Real>(params, image));
  }
  const auto make_bins = select_version<PolarParts<Real>>();
  parallel_parts(images, bins, [&](int64_t begin, int64_t end) { make_bins(params, begin, end); });
  const double inside = sum_of_parts(params.scratch, 0, kInsideEnergy);
  parallel_for(images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      image_statistics<Real>(params, image, inside);
    }
  });
}

}  // namespace

void phase_spectrum(const PhaseSpectrumParams& params) {
  if (params.sizes.images == 0 || params.sizes.bins() == 0) return;
  with_real(params.dtype, [&](auto real) { make_phase_spectrum<decltype(real)>(params); });
}

}  // namespace fvfast::cpu
