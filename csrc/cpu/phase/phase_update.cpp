// One step of NAdam in one pass, which also makes the sums that standardize the new phase.
// Source: T. Dozat, "Incorporating Nesterov momentum into Adam" (2016).
#include <cmath>
#include <cstdint>

#include "common/dispatch.h"
#include "common/macros.h"
#include "cpu/phase/sums.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

enum { kSum = 0, kSquares = 1 };  // sums of one part

template <typename Real>
struct Update {
  Real keep1, add1, keep2, add2;
  Real gradient_rate, momentum_rate, inverse_correction, epsilon;
  Real* phase;
  const Real* gradient;
  Real* exp_avg;
  Real* exp_avg_sq;
  double sums[kSumLanes] = {};
  double squares[kSumLanes] = {};

  FVFAST_HOST_DEVICE Update(const PhaseUpdateParams& params, int64_t image)
      : keep1(static_cast<Real>(params.beta1)),
        add1(static_cast<Real>(1 - params.beta1)),
        keep2(static_cast<Real>(params.beta2)),
        add2(static_cast<Real>(1 - params.beta2)),
        gradient_rate(static_cast<Real>(params.gradient_rate)),
        momentum_rate(static_cast<Real>(params.momentum_rate)),
        inverse_correction(static_cast<Real>(1 / params.correction)),
        epsilon(static_cast<Real>(params.epsilon)),
        phase(static_cast<Real*>(params.out) + image * params.elements),
        gradient(static_cast<const Real*>(params.gradient) + image * params.elements),
        exp_avg(static_cast<Real*>(params.exp_avg) + image * params.elements),
        exp_avg_sq(static_cast<Real*>(params.exp_avg_sq) + image * params.elements) {}

  // `count` <= kSumLanes elements. Stores are a loop of their own, so that the compiler sees that
  // none of them changes a later load.
  FVFAST_HOST_DEVICE void step(int64_t first, int count) {
    Real p[kSumLanes], m[kSumLanes], v[kSumLanes];
    for (int i = 0; i < count; ++i) {
      const Real g = gradient[first + i];
      m[i] = keep1 * exp_avg[first + i] + add1 * g;
      v[i] = keep2 * exp_avg_sq[first + i] + add2 * (g * g);
      const Real size = std::sqrt(v[i] * inverse_correction) + epsilon;
      p[i] = phase[first + i] + (gradient_rate * g + momentum_rate * m[i]) / size;
    }
    for (int i = 0; i < count; ++i) {
      phase[first + i] = p[i];
      exp_avg[first + i] = m[i];
      exp_avg_sq[first + i] = v[i];
    }
    for (int i = 0; i < count; ++i) {
      const double value = static_cast<double>(p[i]);
      sums[i] += value;
      squares[i] += value * value;
    }
  }
};

template <typename Real>
struct UpdateParts {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const PhaseUpdateParams& params, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Part part = part_of(unit, params.elements);
      Update<Real> update(params, part.image);
      int64_t i = part.begin;
      for (; i + kSumLanes <= part.end; i += kSumLanes) update.step(i, kSumLanes);
      if (i < part.end) update.step(i, static_cast<int>(part.end - i));
      double* out = sums_of_part(params.scratch, part.image, part.index);
      out[kSum] = sum_of_lanes(update.sums);
      out[kSquares] = sum_of_lanes(update.squares);
    }
  }
};

}  // namespace

void phase_update(const PhaseUpdateParams& params) {
  const auto update_parts = with_real(
      params.dtype, [](auto real) { return select_version<UpdateParts<decltype(real)>>(); });
  parallel_parts(params.images, params.elements,
                 [&](int64_t begin, int64_t end) { update_parts(params, begin, end); });
  for (int64_t image = 0; image < params.images; ++image) {
    params.sums[2 * image] = sum_of_parts(params.scratch, image, kSum);
    params.sums[2 * image + 1] = sum_of_parts(params.scratch, image, kSquares);
  }
}

}  // namespace fvfast::cpu
