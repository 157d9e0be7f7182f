// One step of NAdam in one pass, which also makes the sums that standardise the new phase.
// Source: T. Dozat, "Incorporating Nesterov momentum into Adam" (2016).
#include <cmath>
#include <cstdint>

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
  Real* momentum;
  Real* square;
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
        phase(static_cast<Real*>(params.phase) + image * params.elements),
        gradient(static_cast<const Real*>(params.gradient) + image * params.elements),
        momentum(static_cast<Real*>(params.momentum) + image * params.elements),
        square(static_cast<Real*>(params.square) + image * params.elements) {}

  // `count` <= kSumLanes elements. Loads, arithmetic and stores are loops of their own: the
  // compiler need not wonder then whether a store changes a later load.
  FVFAST_HOST_DEVICE void step(int64_t first, int count) {
    Real p[kSumLanes], m[kSumLanes], v[kSumLanes];
    for (int i = 0; i < count; ++i) {
      const Real g = gradient[first + i];
      m[i] = keep1 * momentum[first + i] + add1 * g;
      v[i] = keep2 * square[first + i] + add2 * (g * g);
      const Real size = std::sqrt(v[i] * inverse_correction) + epsilon;
      p[i] = phase[first + i] + (gradient_rate * g + momentum_rate * m[i]) / size;
    }
    for (int i = 0; i < count; ++i) {
      phase[first + i] = p[i];
      momentum[first + i] = m[i];
      square[first + i] = v[i];
    }
    for (int i = 0; i < count; ++i) {
      const double value = static_cast<double>(p[i]);
      sums[i] += value;
      squares[i] += value * value;
    }
  }
};

template <typename Real>
FVFAST_HOST_DEVICE void update_parts(const PhaseUpdateParams& params, int64_t begin, int64_t end) {
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

using Kernel = void(const PhaseUpdateParams& params, int64_t begin, int64_t end);

template <typename Real>
void update_baseline(const PhaseUpdateParams& params, int64_t begin, int64_t end) {
  update_parts<Real>(params, begin, end);
}

#if FVFAST_X86
template <typename Real>
FVFAST_TARGET_AVX2 void update_avx2(const PhaseUpdateParams& params, int64_t begin, int64_t end) {
  update_parts<Real>(params, begin, end);
}

template <typename Real>
FVFAST_TARGET_AVX512 void update_avx512(const PhaseUpdateParams& params, int64_t begin,
                                        int64_t end) {
  update_parts<Real>(params, begin, end);
}
#endif

template <typename Real>
void run(const PhaseUpdateParams& params) {
#if FVFAST_X86
  constexpr Versions<Kernel> versions = {update_baseline<Real>, update_avx2<Real>,
                                         update_avx512<Real>};
#else
  constexpr Versions<Kernel> versions = {update_baseline<Real>, nullptr, nullptr};
#endif
  Kernel* const kernel = versions.select();
  parallel_parts(params.images, params.elements,
                 [&](int64_t begin, int64_t end) { kernel(params, begin, end); });
  for (int64_t image = 0; image < params.images; ++image) {
    params.sums[2 * image] = sum_of_parts(params.scratch, image, kSum);
    params.sums[2 * image + 1] = sum_of_parts(params.scratch, image, kSquares);
  }
}

}  // namespace

void phase_update(const PhaseUpdateParams& params) {
  if (params.dtype == DType::kFloat64) {
    run<double>(params);
  } else {
    run<float>(params);
  }
}

}  // namespace fvfast::cpu
