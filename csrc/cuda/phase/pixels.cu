// The pixels of kernels B and E alone, around a transform that something else does: one thread for
// one pixel of all planes that share colours.
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/spectrum.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kPixelThreads = 256;

// image = colours of the image, in place.
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
  forward.run(values, colors);
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
  backward.run(gradient, colors, values);
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
  const bool is_double = params.dtype == DType::kFloat64;
  if (params.has_colors) {
    launch_pixels(is_double ? &spectrum_image_kernel<double, 3> : &spectrum_image_kernel<float, 3>,
                  params, 3, "spectrum_image", target);
  } else {
    launch_pixels(is_double ? &spectrum_image_kernel<double, 1> : &spectrum_image_kernel<float, 1>,
                  params, 1, "spectrum_image", target);
  }
}

void spectrum_image_gradient(const SpectrumImageGradientParams& params, const Target& target) {
  const bool is_double = params.dtype == DType::kFloat64;
  if (params.has_colors) {
    launch_pixels(is_double ? &spectrum_image_gradient_kernel<double, 3>
                            : &spectrum_image_gradient_kernel<float, 3>,
                  params, 3, "spectrum_image_gradient", target);
  } else {
    launch_pixels(is_double ? &spectrum_image_gradient_kernel<double, 1>
                            : &spectrum_image_gradient_kernel<float, 1>,
                  params, 1, "spectrum_image_gradient", target);
  }
}

}  // namespace fvfast::cuda
