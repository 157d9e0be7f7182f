// Kernel G: one step of NAdam, with the sums that standardize the new phase; it also finishes the
// gradient where gradient_columns.cu left it unfinished. And a kernel that only finishes it.
//
// A block owns one of kUpdateParts parts of an image, so that the order of its sums does not depend
// on the device. Consecutive threads take consecutive bins; a thread asks for kInFlight of them, in
// every array, before it waits for the first.
//
// Traffic: reads phase, gradient and both averages, writes all but the gradient, each once.
#include <cmath>

#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/finish.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/update_bins.h"
#include "ops.h"

namespace fvfast::cuda {

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

// One step of NAdam, of bins of one image.
template <typename Real>
class Nadam {
 public:
  __device__ Nadam(const PhaseUpdateParams& params, int64_t image)
      : phase_(static_cast<const Real*>(params.phase) + image * params.elements),
        out_(static_cast<Real*>(params.out) + image * params.elements),
        exp_avg_(static_cast<Real*>(params.exp_avg) + image * params.elements),
        exp_avg_sq_(static_cast<Real*>(params.exp_avg_sq) + image * params.elements),
        keep1_(static_cast<Real>(params.beta1)),
        add1_(static_cast<Real>(1 - params.beta1)),
        keep2_(static_cast<Real>(params.beta2)),
        add2_(static_cast<Real>(1 - params.beta2)),
        epsilon_(static_cast<Real>(params.epsilon)) {
    const UpdateRates rates = current_rates(params);
    gradient_rate_ = static_cast<Real>(rates.gradient);
    momentum_rate_ = static_cast<Real>(rates.momentum);
    inverse_correction_ = static_cast<Real>(1 / rates.correction);
  }

  // Reads kInFlight bins before `end`.
  __device__ __forceinline__ void read(int64_t first, int64_t end) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = bin_number(first, i);
      if (at >= end) continue;
      phases_[i] = phase_[at];
      averages_[i] = exp_avg_[at];
      squares_[i] = exp_avg_sq_[at];
    }
  }

  // Updates one of those that were read, and adds to the sums of the phase and of its squares.
  __device__ __forceinline__ void step(int i, int64_t at, Real g, double (&sums)[2]) {
    const Real m = keep1_ * averages_[i] + add1_ * g;
    const Real v = keep2_ * squares_[i] + add2_ * (g * g);
    const Real size = sqrt(v * inverse_correction_) + epsilon_;
    const Real p = phases_[i] + (gradient_rate_ * g + momentum_rate_ * m) / size;
    exp_avg_[at] = m;
    exp_avg_sq_[at] = v;
    out_[at] = p;
    sums[0] += static_cast<double>(p);
    sums[1] += static_cast<double>(p) * static_cast<double>(p);
  }

  __device__ __forceinline__ Real phase(int i) const { return phases_[i]; }

 private:
  const Real* phase_;
  Real* out_;
  Real* exp_avg_;
  Real* exp_avg_sq_;
  Real keep1_, add1_, keep2_, add2_, epsilon_, gradient_rate_, momentum_rate_, inverse_correction_;
  Real phases_[kInFlight], averages_[kInFlight], squares_[kInFlight];
};

// Updates the bins before `end`, of which the first kInFlight have been read.
template <typename Real, typename Bins>
__device__ __forceinline__ void update_bins(Nadam<Real>& nadam, Bins& bins, int64_t first,
                                            int64_t end, double (&sums)[2]) {
  while (true) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = bin_number(first, i);
      if (at < end) nadam.step(i, at, bins.gradient(i, nadam.phase(i)), sums);
    }
    first = bin_number(first, kInFlight);
    if (first >= end) return;
    nadam.read(first, end);
    bins.read(first, end);
  }
}

// Whether a step updates an image.
__device__ __forceinline__ bool is_updated(const UpdateGate& gate, int64_t image) {
  if (gate.running == nullptr) return true;
  // All three at once: each alone would take as long.
  const bool runs = gate.running[image];
  const float score = gate.scores[image];
  const int32_t flags = gate.flags[image];
  return runs && isfinite(score) && (flags & kGradientNotFinite) == 0;
}

// Leaves an image that is not updated at its last good phase, with the sums that an update would
// have made of it. That of an image that ends here is already in the place of the next one.
template <typename Real>
__device__ __forceinline__ void keep_bins(const PhaseUpdateParams& params, int64_t image,
                                          int64_t first, int64_t end, double (&sums)[2]) {
  const bool ends_here = params.gate.running[image];
  const Real* phase = static_cast<const Real*>(params.phase) + image * params.elements;
  Real* out = static_cast<Real*>(params.out) + image * params.elements;
  const Real* good = ends_here ? out : phase;
#pragma unroll 4
  for (int64_t at = first; at < end; at += kUpdateThreads) {
    const Real p = good[at];
    if (!ends_here) out[at] = p;
    sums[0] += static_cast<double>(p);
    sums[1] += static_cast<double>(p) * static_cast<double>(p);
  }
}

// Updates the bins of a part. All threads of the block call this. Without kFinish the gradient is
// complete, and `gradient` is not looked at.
template <typename Real, bool kFinish>
__device__ __forceinline__ void update_image(const PhaseUpdateParams& params,
                                             const UnfinishedGradient& gradient, int64_t image,
                                             int64_t begin, int64_t end, double (&sums)[2]) {
  const int64_t first = begin + threadIdx.x;
  Nadam<Real> nadam(params, image);
  nadam.read(first, end);
  if constexpr (kFinish) {
    __shared__ FinishMemory<Real> finish_memory;
    FinishedBins<Real> bins(gradient, image, begin);
    bins.read(first, end);
    bins.find_factors(gradient, image, finish_memory);
    update_bins(nadam, bins, first, end, sums);
  } else {
    CompleteBins<Real> bins(static_cast<const Real*>(params.gradient) + image * params.elements);
    bins.read(first, end);
    update_bins(nadam, bins, first, end, sums);
  }
}

template <typename Real, bool kFinish>
__global__ void __launch_bounds__(kUpdateThreads, sizeof(Real) == 4 ? 2 : 1)
    phase_update_kernel(const PhaseUpdateParams params, const UnfinishedGradient gradient,
                        int64_t first_image) {
  __shared__ double memory[2 * kMaxWarps];
  const int64_t image = first_image + blockIdx.y;
  const auto [begin, end] = bins_of_part(params.elements, blockIdx.x);
  double* const part_sums = params.sums + 2 * (image * kUpdateParts + blockIdx.x);
  if (begin == end) {  // fewer bins than parts
    if (threadIdx.x < 2) part_sums[threadIdx.x] = 0;
    return;
  }
  double sums[2] = {0, 0};
  const int64_t first = begin + threadIdx.x;
  if (!is_updated(params.gate, image)) {
    keep_bins<Real>(params, image, first, end, sums);
  } else {
    update_image<Real, kFinish>(params, gradient, image, begin, end, sums);
  }
  first_thread_sum(sums, memory);
  if (threadIdx.x == 0) {
    part_sums[0] = sums[0];
    part_sums[1] = sums[1];
  }
}

template <typename Real>
__global__ void __launch_bounds__(kUpdateThreads, sizeof(Real) == 4 ? 2 : 1)
    finish_gradient_kernel(const UnfinishedGradient gradient, const Real* phase, Real* out,
                           int64_t first_image) {
  __shared__ FinishMemory<Real> finish_memory;
  const int64_t image = first_image + blockIdx.y;
  const int64_t elements = gradient.sizes.bins();
  const auto [begin, end] = bins_of_part(elements, blockIdx.x);
  if (begin == end) return;  // fewer bins than parts
  FinishedBins<Real> bins(gradient, image, begin);
  CompleteBins<Real> phases(phase + image * elements);
  int64_t first = begin + threadIdx.x;
  bins.read(first, end);
  phases.read(first, end);
  bins.find_factors(gradient, image, finish_memory);
  while (true) {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = bin_number(first, i);
      if (at < end) out[image * elements + at] = bins.gradient(i, phases.value(i));
    }
    first = bin_number(first, kInFlight);
    if (first >= end) return;
    bins.read(first, end);
    phases.read(first, end);
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
