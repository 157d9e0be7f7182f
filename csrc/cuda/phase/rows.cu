// Kernels B and E: between the half image, transformed along the columns, and the image.
//
// A block owns pairs of rows: two real rows are the real and the imaginary part of one complex
// transform of the whole width, whether that is even or odd. Three planes that share colors are in
// the same block. In the loops over memory a warp takes consecutive columns of one row.
//
// Traffic of B: reads the complex half image, writes the image. Of E: reads the image's gradient
// and the image, writes the complex half gradient. Each once.
#include "common/dispatch.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/pixels.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

struct RowsGeometry {
  SpectrumSizes sizes;
  int64_t first_image;
  int64_t pitch;
  int tiles;  // blocks of one group of planes
  int lanes;
  TransformPlan plan;
};

// The rows of this block: `pairs` of them from `first_row`, of the planes from `plane` on.
template <int planes>
struct RowsOfBlock {
  int64_t image, plane, first_row;
  int pairs;

  __device__ explicit RowsOfBlock(const RowsGeometry& geometry) {
    const int most = geometry.lanes / planes;
    image = geometry.first_image + blockIdx.y;
    const int block = static_cast<int>(blockIdx.x);
    plane = image * geometry.sizes.channels + block / geometry.tiles * planes;
    first_row = block % geometry.tiles * most * 2;
    const int64_t left = (geometry.sizes.height - first_row + 1) / 2;
    pairs = static_cast<int>(left < most ? left : most);
  }
};

template <typename Real>
struct ImageRowsArguments {
  const Complex<Real>* half_image;  // (N, C, H, pitch)
  const EnergyPart* parts;          // (N, C, part_tiles)
  int part_tiles;
  Real* image;  // (N, C, H, W)
  SpectrumStatistics* statistics;
  double epsilon, low, high;
  double colors[3][3];
  RowsGeometry geometry;
};

template <typename Real, int planes>
__global__ void __launch_bounds__(kTransformThreads, sizeof(Real) == 4 ? 2 : 1)
    image_rows_kernel(const ImageRowsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ double sum_memory[2 * kMaxWarps];
  const RowsGeometry& geometry = arguments.geometry;
  const SpectrumSizes& sizes = geometry.sizes;
  const RowsOfBlock<planes> rows(geometry);
  const int width = static_cast<int>(sizes.width), half = static_cast<int>(sizes.half());
  const ImageMoments moments =
      image_moments(arguments.parts + rows.image * sizes.channels * arguments.part_tiles, sizes,
                    arguments.part_tiles, sum_memory);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    arguments.statistics[rows.image].image_mean = moments.mean;
    arguments.statistics[rows.image].image_std = moments.deviation;
  }

  const TransformMemory<Real> memory(shared_memory, width, geometry.lanes);
  const Skewed layout = {geometry.lanes, geometry.plan.skew};
  memory.prepare(geometry.plan);
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  for (int lane = warp; lane < rows.pairs * planes; lane += warps) {
    const int64_t row = rows.first_row + lane / planes * 2;
    const bool has_second = row + 1 < sizes.height;
    const Complex<Real>* first =
        arguments.half_image + ((rows.plane + lane % planes) * sizes.height + row) * geometry.pitch;
    for (int k = static_cast<int>(threadIdx.x) % kWarp; k < half; k += kWarp) {
      Complex<Real> a = first[k];
      Complex<Real> b = {0, 0};
      if (has_second) b = first[geometry.pitch + k];
      if (k == 0 || 2 * k == width) {  // real rows: the inverse transform ignores the rest
        memory.values[layout(memory.places[k], lane)] = {a.re, b.re};
      } else {
        memory.values[layout(memory.places[k], lane)] = {a.re - b.im, a.im + b.re};
        memory.values[layout(memory.places[width - k], lane)] = {a.re + b.im, b.re - a.im};
      }
    }
  }
  transform<true>(memory, layout, geometry.plan);

  const PixelForward<Real, planes> forward(arguments, moments.mean, moments.deviation);
  for (int pair = 0; pair < rows.pairs; ++pair) {
    const int64_t row = rows.first_row + 2 * pair;
    const bool has_second = row + 1 < sizes.height;
    for (int x = static_cast<int>(threadIdx.x); x < width; x += static_cast<int>(blockDim.x)) {
      Real first[planes], second[planes], pixel[planes];
#pragma unroll
      for (int i = 0; i < planes; ++i) {
        const Complex<Real> value = memory.values[layout(x, pair * planes + i)];
        first[i] = value.re;
        second[i] = value.im;
      }
      Real* out = arguments.image + (rows.plane * sizes.height + row) * width + x;
      forward.make_pixel(first, pixel);
#pragma unroll
      for (int i = 0; i < planes; ++i) out[i * sizes.height * width] = pixel[i];
      if (!has_second) continue;
      forward.make_pixel(second, pixel);
#pragma unroll
      for (int i = 0; i < planes; ++i) out[(i * sizes.height + 1) * width] = pixel[i];
    }
  }
}

template <typename Real>
struct GradientRowsArguments {
  const Real* gradient;          // (N, C, H, W)
  const Real* image;             // (N, C, H, W)
  Complex<Real>* half_gradient;  // (N, C, H, pitch)
  double low, high;
  double colors[3][3];
  RowsGeometry geometry;
};

template <typename Real, int planes>
__global__ void __launch_bounds__(kTransformThreads, sizeof(Real) == 4 ? 2 : 1)
    gradient_rows_kernel(const GradientRowsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  const RowsGeometry& geometry = arguments.geometry;
  const SpectrumSizes& sizes = geometry.sizes;
  const RowsOfBlock<planes> rows(geometry);
  const int width = static_cast<int>(sizes.width), half = static_cast<int>(sizes.half());
  const TransformMemory<Real> memory(shared_memory, width, geometry.lanes);
  const Skewed layout = {geometry.lanes, geometry.plan.skew};
  memory.prepare(geometry.plan);
  __syncthreads();

  const PixelBackward<Real, planes> backward(arguments);
  const int64_t plane_pixels = sizes.height * width;
  for (int pair = 0; pair < rows.pairs; ++pair) {
    const int64_t row = rows.first_row + 2 * pair;
    const bool has_second = row + 1 < sizes.height;
    for (int x = static_cast<int>(threadIdx.x); x < width; x += static_cast<int>(blockDim.x)) {
      const int64_t at = (rows.plane * sizes.height + row) * width + x;
      Real gradient[planes], pixel[planes], first[planes], second[planes] = {};
#pragma unroll
      for (int i = 0; i < planes; ++i) {
        gradient[i] = arguments.gradient[at + i * plane_pixels];
        pixel[i] = arguments.image[at + i * plane_pixels];
      }
      backward.make_gradient(gradient, pixel, first);
      if (has_second) {
#pragma unroll
        for (int i = 0; i < planes; ++i) {
          gradient[i] = arguments.gradient[at + i * plane_pixels + width];
          pixel[i] = arguments.image[at + i * plane_pixels + width];
        }
        backward.make_gradient(gradient, pixel, second);
      }
#pragma unroll
      for (int i = 0; i < planes; ++i) {
        memory.values[layout(memory.places[x], pair * planes + i)] = {first[i], second[i]};
      }
    }
  }
  transform<false>(memory, layout, geometry.plan);

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  for (int lane = warp; lane < rows.pairs * planes; lane += warps) {
    const int64_t row = rows.first_row + lane / planes * 2;
    const bool has_second = row + 1 < sizes.height;
    Complex<Real>* out = arguments.half_gradient +
                         ((rows.plane + lane % planes) * sizes.height + row) * geometry.pitch;
    for (int k = static_cast<int>(threadIdx.x) % kWarp; k < half; k += kWarp) {
      const Complex<Real> a = memory.values[layout(k, lane)];
      const Complex<Real> b = memory.values[layout(k == 0 ? 0 : width - k, lane)];
      const Real middle = static_cast<Real>(0.5);
      out[k] = {middle * (a.re + b.re), middle * (a.im - b.im)};
      if (has_second) out[geometry.pitch + k] = {middle * (a.im + b.im), middle * (b.re - a.re)};
    }
  }
}

RowsGeometry rows_geometry(const SpectrumSizes& sizes, int planes, const Tiling& tiling) {
  RowsGeometry geometry{};
  geometry.sizes = sizes;
  geometry.pitch = pitch_of(sizes);
  geometry.lanes = tiling.lanes;
  geometry.tiles = static_cast<int>(row_tiles_of(sizes, tiling.lanes, planes));
  geometry.plan = tiling.plan;
  return geometry;
}

// One launch for every kGridYz images.
template <typename Arguments>
void launch_row_kernel(void (*kernel)(Arguments), Arguments arguments, int planes,
                       const Tiling& tiling, const char* what, const Target& target) {
  const RowsGeometry& geometry = arguments.geometry;
  allow_shared_memory(kernel, tiling.shared_bytes, target.device, what);
  const unsigned blocks = grid_x(geometry.sizes.channels / planes * geometry.tiles, what);
  for (int64_t first = 0; first < geometry.sizes.images; first += kGridYz) {
    const unsigned images = grid_yz(geometry.sizes.images - first);
    arguments.geometry.first_image = first;
    kernel<<<dim3(blocks, images), static_cast<unsigned>(tiling.threads), tiling.shared_bytes,
             stream_of(target)>>>(arguments);
    check_launch(what);
  }
}

template <typename Real, int planes>
void launch_image_rows(const PhaseImageParams& params, const Target& target) {
  const DeviceGuard guard(target, "phase_image");
  const Tiling tiling = row_tiling(params.dtype, params.sizes, planes == 3, target.device);
  const PhaseImageScratch scratch(params.scratch, params.dtype, params.sizes);
  ImageRowsArguments<Real> arguments{};
  arguments.half_image = static_cast<const Complex<Real>*>(scratch.half_image);
  arguments.parts = scratch.parts;
  // As many as the columns had blocks, of which a grid has room for an int.
  arguments.part_tiles = static_cast<int>(
      tiles_of(params.sizes, column_tiling(params.dtype, params.sizes, target.device).lanes));
  arguments.image = static_cast<Real*>(params.image);
  arguments.statistics = params.statistics;
  arguments.epsilon = params.epsilon;
  arguments.low = params.low;
  arguments.high = params.high;
  std::copy_n(&params.colors[0][0], 9, &arguments.colors[0][0]);
  arguments.geometry = rows_geometry(params.sizes, planes, tiling);
  launch_row_kernel(&image_rows_kernel<Real, planes>, arguments, planes, tiling, "phase_image",
                    target);
}

template <typename Real, int planes>
void launch_gradient_rows(const PhaseImageGradientParams& params, const Target& target) {
  const DeviceGuard guard(target, "phase_image_gradient");
  const Tiling tiling = row_tiling(params.dtype, params.sizes, planes == 3, target.device);
  const GradientScratch scratch(params.scratch, params.dtype, params.sizes);
  GradientRowsArguments<Real> arguments{};
  arguments.gradient = static_cast<const Real*>(params.gradient);
  arguments.image = static_cast<const Real*>(params.image);
  arguments.half_gradient = static_cast<Complex<Real>*>(scratch.half_gradient);
  arguments.low = params.low;
  arguments.high = params.high;
  std::copy_n(&params.colors[0][0], 9, &arguments.colors[0][0]);
  arguments.geometry = rows_geometry(params.sizes, planes, tiling);
  launch_row_kernel(&gradient_rows_kernel<Real, planes>, arguments, planes, tiling,
                    "phase_image_gradient", target);
}

void image_rows(const PhaseImageParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? launch_image_rows<Real, 3>(params, target)
                      : launch_image_rows<Real, 1>(params, target);
  });
}

void gradient_rows(const PhaseImageGradientParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? launch_gradient_rows<Real, 3>(params, target)
                      : launch_gradient_rows<Real, 1>(params, target);
  });
}

}  // namespace fvfast::cuda
