// Only the pixels of kernels B and E, for sizes whose transform is done elsewhere: a thread has one
// pixel of all planes that share colors.
#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/pixels.h"
#include "cuda/phase/spectrum.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kPixelThreads = 256;

// From standardized planes to colors, in place.
template <typename Real, int planes>
__global__ void __launch_bounds__(kPixelThreads)
    spectrum_image_kernel(const SpectrumImageParams params, int64_t first_group) {
  const int64_t area = params.sizes.height * params.sizes.width;
  const int64_t group = first_group + blockIdx.y;
  const int64_t pixel = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (pixel >= area) return;
  const SpectrumStatistics statistics = params.statistics[group / (params.sizes.channels / planes)];
  const PixelForward<Real, planes> forward(params, statistics.image_mean, statistics.image_std);
  Real* at = static_cast<Real*>(params.image) + group * planes * area + pixel;
  Real values[planes], colors[planes];
#pragma unroll
  for (int i = 0; i < planes; ++i) values[i] = at[i * area];
  forward.make_pixel(values, colors);
#pragma unroll
  for (int i = 0; i < planes; ++i) at[i * area] = colors[i];
}

template <typename Real, int planes>
__global__ void __launch_bounds__(kPixelThreads)
    spectrum_image_gradient_kernel(const SpectrumImageGradientParams params, int64_t first_group) {
  const int64_t area = params.sizes.height * params.sizes.width;
  const int64_t group = first_group + blockIdx.y;
  const int64_t pixel = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (pixel >= area) return;
  const PixelBackward<Real, planes> backward(params);
  const int64_t at = group * planes * area + pixel;
  Real gradient[planes], colors[planes], values[planes];
#pragma unroll
  for (int i = 0; i < planes; ++i) {
    gradient[i] = static_cast<const Real*>(params.gradient)[at + i * area];
    colors[i] = static_cast<const Real*>(params.image)[at + i * area];
  }
  backward.make_gradient(gradient, colors, values);
#pragma unroll
  for (int i = 0; i < planes; ++i) static_cast<Real*>(params.out)[at + i * area] = values[i];
}

template <typename Params>
void launch_pixels(void (*kernel)(Params, int64_t), const Params& params, int planes,
                   const char* what, const Target& target) {
  const DeviceGuard guard(target, what);
  const int64_t area = params.sizes.height * params.sizes.width;
  const int64_t groups = params.sizes.images * params.sizes.channels / planes;
  const unsigned blocks = grid_x(divided_up(area, kPixelThreads), what);
  for (int64_t first = 0; first < groups; first += kGridYz) {
    const dim3 grid(blocks, grid_yz(groups - first));
    kernel<<<grid, kPixelThreads, 0, stream_of(target)>>>(params, first);
    check_launch(what);
  }
}

void spectrum_image(const SpectrumImageParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors
        ? launch_pixels(&spectrum_image_kernel<Real, 3>, params, 3, "spectrum_image", target)
        : launch_pixels(&spectrum_image_kernel<Real, 1>, params, 1, "spectrum_image", target);
  });
}

void spectrum_image_gradient(const SpectrumImageGradientParams& params, const Target& target) {
  const char* const name = "spectrum_image_gradient";
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors
        ? launch_pixels(&spectrum_image_gradient_kernel<Real, 3>, params, 3, name, target)
        : launch_pixels(&spectrum_image_gradient_kernel<Real, 1>, params, 1, name, target);
  });
}

}  // namespace fvfast::cuda
