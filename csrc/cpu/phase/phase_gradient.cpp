// Gradient with respect to the phase, from the spectrum of the gradient with respect to the image.
//
// Let y be the inverse transform of the half spectrum X = M exp(i q), mu and d its mean and
// standard deviation over all P = C H W values, D = d + epsilon and z = (y - mu) / D.
// Given g = dL/dz,
//
//   dL/dy = (g - mean(g) - z (D / d) mean(g z)) / D.
//
// Its three terms reach the phase separately, because y is linear in X and dX/dq = i X:
//
//   g        With B = w rfft2(g) / H W, w = 1 on the edge columns and 2 inside, which is the
//            adjoint of the inverse transform, bin k receives Re(conj(B) i X) = Im B Re X -
//            Re B Im X.
//   mean(g)  Multiplies the image's sum, sum_c Re X_c[0, 0]: the bins [0, 0] receive -Im X.
//   z        Belongs to sum((y - mu)^2) / 2 D, of which Parseval leaves to the phase only the edge
//            columns (see phase_spectrum.cpp): bin k receives -Im(X[k] X[-k]) / 2 H W D, and the
//            bins [0, 0] receive mu Im X / D besides.
//
// Neither mean needs the image: sum(g) is the sum of the transform's bins [0, 0], and the sum of g
// y is the inner product Re(conj(B) X) summed over all bins. So the image is never read again. One
// pass makes the first term and the sums, a short one corrects the edge columns, and a last one
// goes back through the standardization of the phase, which has the same form as dL/dy.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/macros.h"
#include "cpu/phase/sums.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

// Sums of one part: of g y, of the gradient so far, and of the gradient times (phase - mean).
enum { kProduct = 0, kGradient = 1, kMoment = 2 };
// What correct_edges() leaves for the last pass, in place of the sums of an image's first part.
enum { kScale = 0, kOffset = 1, kSlope = 2 };

// The arrays of one image.
template <typename Real>
struct Arrays {
  const Real* transform;
  const Real* spectrum;
  const Real* phase;
  Real* out;

  Arrays(const PhaseGradientParams& params, int64_t image)
      : transform(static_cast<const Real*>(params.transform) + 2 * image * params.sizes.bins()),
        spectrum(static_cast<const Real*>(params.spectrum) + 2 * image * params.sizes.bins()),
        phase(static_cast<const Real*>(params.phase) + image * params.sizes.bins()),
        out(static_cast<Real*>(params.out) + image * params.sizes.bins()) {}
};

template <typename Real>
struct Sums {
  double product[kSumLanes] = {};
  double gradient[kSumLanes] = {};
  double moment[kSumLanes] = {};

  // The first term of `count` <= kSumLanes bins, and their share of the sums.
  FVFAST_HOST_DEVICE void add(const Arrays<Real>& arrays, int64_t first, int count, Real weight,
                              double mean) {
    Real products[kSumLanes], gradients[kSumLanes];
    const Real* transform = arrays.transform + 2 * first;
    const Real* spectrum = arrays.spectrum + 2 * first;
    for (int i = 0; i < count; ++i) {
      const Real b_real = transform[2 * i] * weight, b_imaginary = transform[2 * i + 1] * weight;
      products[i] = b_real * spectrum[2 * i] + b_imaginary * spectrum[2 * i + 1];
      gradients[i] = b_imaginary * spectrum[2 * i] - b_real * spectrum[2 * i + 1];
    }
    for (int i = 0; i < count; ++i) arrays.out[first + i] = gradients[i];
    for (int i = 0; i < count; ++i) {
      const double value = static_cast<double>(gradients[i]);
      product[i] += static_cast<double>(products[i]);
      gradient[i] += value;
      moment[i] += value * (static_cast<double>(arrays.phase[first + i]) - mean);
    }
  }
};

template <typename Real>
struct FirstTerm {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const PhaseGradientParams& params, int64_t begin,
                                     int64_t end) {
    const SpectrumSizes& sizes = params.sizes;
    const int64_t half = sizes.half();
    const double plane = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
    const Real weight = static_cast<Real>(2 / plane);
    const int64_t last_edge = sizes.width % 2 == 0 ? sizes.width / 2 : 0;
    for (int64_t unit = begin; unit < end; ++unit) {
      const Part rows = part_of(unit, sizes.rows());
      const Arrays<Real> arrays(params, rows.image);
      const double mean = params.statistics[rows.image].phase_mean;
      Sums<Real> sums;
      const int64_t last = rows.end * half;
      int64_t i = rows.begin * half;
      for (; i + kSumLanes <= last; i += kSumLanes) sums.add(arrays, i, kSumLanes, weight, mean);
      if (i < last) sums.add(arrays, i, static_cast<int>(last - i), weight, mean);
      double* out = sums_of_part(params.scratch, rows.image, rows.index);
      out[kProduct] = sum_of_lanes(sums.product);
      out[kGradient] = sum_of_lanes(sums.gradient);
      out[kMoment] = sum_of_lanes(sums.moment);

      // So far all bins stand for two frequencies; those of the edge columns stand for one.
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        for (int64_t column = 0; column <= last_edge; column += std::max<int64_t>(last_edge, 1)) {
          const int64_t bin = row * half + column;
          const double value = 0.5 * static_cast<double>(arrays.out[bin]);
          const Real* b = arrays.transform + 2 * bin;
          const Real* x = arrays.spectrum + 2 * bin;
          out[kProduct] -= static_cast<double>(b[0] * x[0] + b[1] * x[1]) / plane;
          out[kGradient] -= value;
          out[kMoment] -= value * (static_cast<double>(arrays.phase[bin]) - mean);
          arrays.out[bin] = static_cast<Real>(value);
        }
      }
    }
  }
};

// Adds the other two terms of one image, and prepares the last pass.
template <typename Real>
void correct_edges(const PhaseGradientParams& params, int64_t image) {
  const SpectrumSizes& sizes = params.sizes;
  const SpectrumStatistics& statistics = params.statistics[image];
  const Arrays<Real> arrays(params, image);
  const int64_t half = sizes.half();
  const double plane = static_cast<double>(sizes.height) * static_cast<double>(sizes.width);
  const double pixels = static_cast<double>(sizes.pixels());
  const double deviation = statistics.image_std + params.epsilon;
  const double product = sum_of_parts(params.scratch, image, kProduct);
  double gradient_sum = sum_of_parts(params.scratch, image, kGradient);
  double moment = sum_of_parts(params.scratch, image, kMoment);

  double sum = 0;  // of g
  for (int64_t channel = 0; channel < sizes.channels; ++channel) {
    sum += static_cast<double>(arrays.transform[2 * channel * sizes.height * half]);
  }
  // (D / d) mean(g z) / D. The deviation of a constant image has the gradient 0.
  double slope = 0;
  if (statistics.image_std > 0) {
    slope = (product - statistics.image_mean * sum) / (deviation * pixels * statistics.image_std);
  }

  const int64_t last_edge = sizes.width % 2 == 0 ? sizes.width / 2 : 0;
  for (int64_t channel = 0; channel < sizes.channels; ++channel) {
    for (int64_t y = 0; y < sizes.height; ++y) {
      for (int64_t column = 0; column <= last_edge; column += std::max<int64_t>(last_edge, 1)) {
        const int64_t bin = (channel * sizes.height + y) * half + column;
        const int64_t opposite =
            (channel * sizes.height + (sizes.height - y) % sizes.height) * half + column;
        const double x[2] = {static_cast<double>(arrays.spectrum[2 * bin]),
                             static_cast<double>(arrays.spectrum[2 * bin + 1])};
        const double mirror[2] = {static_cast<double>(arrays.spectrum[2 * opposite]),
                                  static_cast<double>(arrays.spectrum[2 * opposite + 1])};
        double change = slope * (x[0] * mirror[1] + x[1] * mirror[0]) / (2 * plane);
        if (y == 0 && column == 0) change += (sum / pixels - slope * statistics.image_mean) * x[1];
        const double before = static_cast<double>(arrays.out[bin]);
        arrays.out[bin] = static_cast<Real>(before + change);
        gradient_sum += change;
        moment += change * (static_cast<double>(arrays.phase[bin]) - statistics.phase_mean);
      }
    }
  }

  const double bins = static_cast<double>(sizes.bins());
  const double phase_deviation = statistics.phase_std + params.epsilon;
  double* const coefficients = sums_of_part(params.scratch, image, 0);
  coefficients[kScale] = 1 / (deviation * phase_deviation);
  coefficients[kOffset] = gradient_sum / bins;
  coefficients[kSlope] =
      statistics.phase_std > 0 ? moment / (bins * phase_deviation * statistics.phase_std) : 0;
}

// out = scale (out - offset - slope (phase - mean)): through the standardization of the phase.
template <typename Real>
struct LastPass {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const PhaseGradientParams& params, int64_t begin,
                                     int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Part part = part_of(unit, params.sizes.bins());
      const Arrays<Real> arrays(params, part.image);
      const double* coefficients = sums_of_part(params.scratch, part.image, 0);
      // The rounding error of the mean goes to the offset: it may be as large as the deviation.
      const double exact_mean = params.statistics[part.image].phase_mean;
      const Real mean = static_cast<Real>(exact_mean);
      const double left_out = exact_mean - static_cast<double>(mean);
      const Real scale = static_cast<Real>(coefficients[kScale]);
      const Real slope = static_cast<Real>(coefficients[kSlope]);
      const Real offset =
          static_cast<Real>(coefficients[kOffset] - coefficients[kSlope] * left_out);
      const Real* __restrict phase = arrays.phase;
      Real* __restrict out = arrays.out;
      for (int64_t i = part.begin; i < part.end; ++i) {
        out[i] = scale * ((out[i] - offset) - slope * (phase[i] - mean));
      }
    }
  }
};

template <typename Real>
void make_phase_gradient(const PhaseGradientParams& params) {
  const int64_t images = params.sizes.images, bins = params.sizes.bins();
  const auto make_first_term = select_version<FirstTerm<Real>>();
  const auto finish = select_version<LastPass<Real>>();
  parallel_parts(images, bins,
                 [&](int64_t begin, int64_t end) { make_first_term(params, begin, end); });
  parallel_for(images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) correct_edges<Real>(params, image);
  });
  parallel_parts(images, bins, [&](int64_t begin, int64_t end) { finish(params, begin, end); });
}

}  // namespace

void phase_gradient(const PhaseGradientParams& params) {
  if (params.sizes.images == 0 || params.sizes.bins() == 0) return;
  with_real(params.dtype, [&](auto real) { make_phase_gradient<decltype(real)>(params); });
}

}  // namespace fvfast::cpu
