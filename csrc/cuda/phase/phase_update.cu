// Kernel G: one step of NAdam, with the sums that standardize the new phase; it also finishes the
// gradient where gradient_columns.cu left it unfinished. And a kernel that only finishes it.
//
// A block owns one of kUpdateParts parts of an image, so that the order of its sums does not depend
// on the device. Consecutive threads take consecutive bins.
//
// Traffic: reads phase, gradient and both averages, writes all but the gradient, each once.
#include <cmath>

#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/finish.h"
#include "cuda/phase/kernels.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kUpdateThreads = 256;

struct UpdateRates {
  double gradient, momentum, correction;
};

__device__ inline UpdateRates current_rates(const PhaseUpdateParams& params) {
  if (params.rates.numbers == nullptr) {
    return {params.gradient_rate, params.momentum_rate, params.correction};
  }
  const double* row = current_row(params.rates, params.counter);
  return {row[0], row[1], row[2]};
}

// Without kFinish the gradient is complete, and `gradient` is not looked at.
template <typename Real, bool kFinish>
__global__ void __launch_bounds__(kUpdateThreads, 2)
    phase_update_kernel(const PhaseUpdateParams params, const UnfinishedGradient gradient,
                        int64_t first_image) {
  __shared__ double memory[kGradientSums * kMaxWarps];
  const int64_t image = first_image + blockIdx.y;
  const BinRange range = bins_of_part(params.elements, blockIdx.x);
  const int64_t begin = range.begin, end = range.end;
  double* const part_sums = params.sums + 2 * (image * kUpdateParts + blockIdx.x);
  if (begin == end) {  // fewer bins than parts
    if (threadIdx.x < 2) part_sums[threadIdx.x] = 0;
    return;
  }
  Real* phase = static_cast<Real*>(params.phase) + image * params.elements;
  Real* exp_avg = static_cast<Real*>(params.exp_avg) + image * params.elements;
  Real* exp_avg_sq = static_cast<Real*>(params.exp_avg_sq) + image * params.elements;

  const UpdateRates rates = current_rates(params);
  const Real keep1 = static_cast<Real>(params.beta1), add1 = static_cast<Real>(1 - params.beta1);
  const Real keep2 = static_cast<Real>(params.beta2), add2 = static_cast<Real>(1 - params.beta2);
  const Real gradient_rate = static_cast<Real>(rates.gradient);
  const Real momentum_rate = static_cast<Real>(rates.momentum);
  const Real inverse_correction = static_cast<Real>(1 / rates.correction);
  const Real epsilon = static_cast<Real>(params.epsilon);

  double sums[2] = {0, 0};
  const auto update = [&](int64_t i, Real g) {
    const Real m = keep1 * exp_avg[i] + add1 * g;
    const Real v = keep2 * exp_avg_sq[i] + add2 * (g * g);
    const Real size = sqrt(v * inverse_correction) + epsilon;
    const Real p = phase[i] + (gradient_rate * g + momentum_rate * m) / size;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    phase[i] = p;
    sums[0] += static_cast<double>(p);
    sums[1] += static_cast<double>(p) * static_cast<double>(p);
  };
  if constexpr (kFinish) {
    const Finish<Real> finish(gradient, image, begin, memory);
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      update(i, finish(static_cast<uint32_t>(i - begin), phase[i]));
    }
  } else {
    const Real* slopes = static_cast<const Real*>(params.gradient) + image * params.elements;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) update(i, slopes[i]);
  }
  block_sum(sums, memory);
  if (threadIdx.x == 0) {
    part_sums[0] = sums[0];
    part_sums[1] = sums[1];
  }
}

template <typename Real>
__global__ void __launch_bounds__(kUpdateThreads, 2)
    finish_gradient_kernel(const UnfinishedGradient gradient, const Real* phase, Real* out,
                           int64_t first_image) {
  __shared__ double memory[kGradientSums * kMaxWarps];
  const int64_t image = first_image + blockIdx.y;
  const int64_t bins = gradient.sizes.bins();
  const auto [begin, end] = bins_of_part(bins, blockIdx.x);
  if (begin == end) return;  // fewer bins than parts
  const Finish<Real> finish(gradient, image, begin, memory);
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    out[image * bins + i] = finish(static_cast<uint32_t>(i - begin), phase[image * bins + i]);
  }
}

// Calls launch(first image, images) for at most kGridYz images at a time.
template <typename Launch>
void over_images(int64_t images, const char* what, const Launch& launch) {
  for (int64_t first = 0; first < images; first += kGridYz) {
    launch(first, grid_yz(images - first));
    check_launch(what);
  }
}

template <typename Real>
void launch_update(const PhaseUpdateParams& params, const UnfinishedGradient* gradient,
                   const Target& target) {
  const DeviceGuard guard(target, "phase_update");
  const auto kernel =
      gradient == nullptr ? &phase_update_kernel<Real, false> : &phase_update_kernel<Real, true>;
  const UnfinishedGradient unfinished = gradient == nullptr ? UnfinishedGradient{} : *gradient;
  over_images(params.images, "phase_update", [&](int64_t first, unsigned images) {
    kernel<<<dim3(kUpdateParts, images), kUpdateThreads, 0, stream_of(target)>>>(params, unfinished,
                                                                                 first);
  });
}

template <typename Real>
void launch_finish(const PhaseImageGradientParams& params, const UnfinishedGradient& gradient,
                   const Target& target) {
  const DeviceGuard guard(target, "phase_image_gradient");
  over_images(params.sizes.images, "phase_image_gradient", [&](int64_t first, unsigned images) {
    finish_gradient_kernel<Real>
        <<<dim3(kUpdateParts, images), kUpdateThreads, 0, stream_of(target)>>>(
            gradient, static_cast<const Real*>(params.phase), static_cast<Real*>(params.out),
            first);
  });
}

void update_phase(const PhaseUpdateParams& params, const UnfinishedGradient* gradient,
                  const Target& target) {
  with_real(params.dtype,
            [&](auto real) { launch_update<decltype(real)>(params, gradient, target); });
}

void finish_gradient(const PhaseImageGradientParams& params, const UnfinishedGradient& gradient,
                     const Target& target) {
  with_real(params.dtype,
            [&](auto real) { launch_finish<decltype(real)>(params, gradient, target); });
}

}  // namespace fvfast::cuda
