// The kernels of the phase, put together.
//
// phase_spectrum is kernel A without its transform, with the image's statistics; phase_gradient is
// kernel F without its own.
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/finish.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/scratch.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

// One warp for each image.
__global__ void __launch_bounds__(kWarp)
    image_moments_kernel(const double* energies, int64_t parts, const double* constants,
                         const SpectrumSizes sizes, SpectrumStatistics* statistics) {
  const int64_t image = blockIdx.x;
  const ImageMoments moments =
      image_moments(energies + image * parts, parts, constants + image * sizes.channels, sizes);
  if (threadIdx.x != 0) return;
  statistics[image].image_mean = moments.mean;
  statistics[image].image_std = moments.deviation;
}

bool transform_fits(DType dtype, const SpectrumSizes& sizes, bool has_colors, int device) {
  return column_tiling(dtype, sizes, device).lanes > 0 &&
         row_tiling(dtype, sizes, has_colors, device).lanes > 0;
}

int64_t phase_image_scratch(DType dtype, const SpectrumSizes& sizes) {
  return PhaseImageScratch(nullptr, dtype, sizes).bytes;
}

int64_t phase_image_gradient_scratch(DType dtype, const SpectrumSizes& sizes) {
  return GradientScratch(nullptr, dtype, sizes).bytes;
}

void phase_image(const PhaseImageParams& params, const Target& target) {
  phase_columns(params, nullptr, target);
  image_rows(params, target);
}

int column_lanes(const PhaseImageGradientParams& params, const Target& target) {
  return column_tiling(params.dtype, params.sizes, target.device).lanes;
}

void phase_image_gradient(const PhaseImageGradientParams& params, const Target& target) {
  gradient_rows(params, target);
  gradient_columns(params, nullptr, target);
  if (params.finish)
    finish_gradient(params, unfinished_of(params, column_lanes(params, target)), target);
}

void phase_update(const PhaseUpdateParams& params, const Target& target) {
  if (params.unfinished == nullptr) return update_phase(params, nullptr, target);
  const UnfinishedGradient gradient =
      unfinished_of(*params.unfinished, column_lanes(*params.unfinished, target));
  update_phase(params, &gradient, target);
}

void phase_spectrum(const PhaseImageParams& params, void* spectrum, const Target& target) {
  const unsigned blocks = grid_x(params.sizes.images, "phase_spectrum");
  phase_columns(params, spectrum, target);
  const DeviceGuard guard(target, "phase_spectrum");
  const PhaseImageScratch scratch(params.scratch, params.dtype, params.sizes);
  const int64_t parts = params.sizes.channels * column_parts(params.sizes, kWideTileColumns);
  image_moments_kernel<<<blocks, kWarp, 0, stream_of(target)>>>(
      scratch.energies, parts, scratch.constants, params.sizes, params.statistics);
  check_launch("phase_spectrum");
}

void phase_gradient(const PhaseImageGradientParams& params, const void* transform,
                    const Target& target) {
  gradient_columns(params, transform, target);
  finish_gradient(params, unfinished_of(params, kWideTileColumns), target);
}

}  // namespace fvfast::cuda
