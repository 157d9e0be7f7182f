// Kernel E: from the gradient of the image to the half gradient, transformed along the rows.
//
// A block owns pairs of rows: see rows.h. In the loops over memory a warp takes consecutive columns
// of one row.
//
// Traffic: reads the image's gradient and the image, writes the complex half gradient, each once.
#include "common/dispatch.h"
#include "cuda/launch.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/pixels.h"
#include "cuda/phase/rows.h"
#include "cuda/phase/scratch.h"
#include "ops.h"

namespace fvfast::cuda {

template <typename Real>
struct GradientRowsArguments {
  const Real* gradient;          // (N, C, H, W)
  const Real* image;             // (N, C, H, W)
  Complex<Real>* half_gradient;  // (N, C, H, pitch)
  double low, high;
  double colors[3][3];
  RowsGeometry geometry;
};

// The bins of two real rows, of which a complex sequence was the two parts, from its bin k and its
// bin width - k.
template <typename Real>
struct PairOfRows {
  Complex<Real> first, second;

  __device__ __forceinline__ PairOfRows(Complex<Real> bin, Complex<Real> mirror) {
    const Real middle = static_cast<Real>(0.5);
    first = {middle * (bin.re + mirror.re), middle * (bin.im - mirror.im)};
    second = {middle * (bin.im + mirror.im), middle * (mirror.re - bin.re)};
  }
};

template <typename Real, int planes>
__device__ __forceinline__ void gradient_rows_in_registers(
    const GradientRowsArguments<Real>& arguments, void* shared) {
  const RowsGeometry& geometry = arguments.geometry;
  const SpectrumSizes& sizes = geometry.sizes;
  const RowsOfBlock<planes> rows(geometry);
  const RowOfThread<planes> own(geometry, rows);
  const int width = static_cast<int>(sizes.width), half = static_cast<int>(sizes.half());
  const RegisterMemory<Real> memory(shared, width, geometry.lanes);
  const AlongLane place = {own.lane * padded(width)};
  const PixelBackward<Real, planes> backward(arguments);

  // The planes are mixed after the transform, which does not notice.
  Complex<Real> points[kPoints] = {};
  if (own.valid) {
    const int64_t at = ((rows.plane + own.plane) * sizes.height + own.row) * width + own.thread;
    const Real* gradient = arguments.gradient + at;
    const Real* image = arguments.image + at;
#pragma unroll
    for (int i = 0; i < kPoints; ++i) {
      const int x = i * own.threads;
      points[i].re = backward.slope(gradient[x], image[x]);
      if (own.has_second) points[i].im = backward.slope(gradient[x + width], image[x + width]);
    }
  }
  memory.prepare(width);
  register_transform<false>(points, memory, place, width, own.thread, own.valid);
  __syncthreads();  // the last exchange has been read
  if (own.valid) {
#pragma unroll
    for (int i = 0; i < kPoints; ++i) {
      memory.values[place.plain(own.thread + i * own.threads)] = points[i];
    }
  }
  __syncthreads();

  const int items = rows.pairs * half;
  for (int item = static_cast<int>(threadIdx.x); item < items;
       item += static_cast<int>(blockDim.x)) {
    const int pair = item / half, k = item - pair * half;
    const int64_t row = rows.first_row + 2 * pair;
    Real parts[4][planes];
#pragma unroll
    for (int j = 0; j < planes; ++j) {
      const Complex<Real>* sequence = memory.values + (pair * planes + j) * padded(width);
      const PairOfRows<Real> bins(sequence[k], sequence[k == 0 ? 0 : width - k]);
      parts[0][j] = bins.first.re;
      parts[1][j] = bins.first.im;
      parts[2][j] = bins.second.re;
      parts[3][j] = bins.second.im;
    }
#pragma unroll
    for (int i = 0; i < planes; ++i) {
      Complex<Real>* out =
          arguments.half_gradient + ((rows.plane + i) * sizes.height + row) * geometry.pitch + k;
      out[0] = {backward.unmixed(parts[0], i), backward.unmixed(parts[1], i)};
      if (row + 1 < sizes.height) {
        out[geometry.pitch] = {backward.unmixed(parts[2], i), backward.unmixed(parts[3], i)};
      }
    }
  }
}

template <typename Real, int planes>
__device__ __forceinline__ void gradient_rows_in_shared(
    const GradientRowsArguments<Real>& arguments, void* shared) {
  const RowsGeometry& geometry = arguments.geometry;
  const SpectrumSizes& sizes = geometry.sizes;
  const RowsOfBlock<planes> rows(geometry);
  const int width = static_cast<int>(sizes.width), half = static_cast<int>(sizes.half());
  const TransformMemory<Real> memory(shared, width, geometry.lanes);
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
      const PairOfRows<Real> bins(memory.values[layout(k, lane)],
                                  memory.values[layout(k == 0 ? 0 : width - k, lane)]);
      out[k] = bins.first;
      if (has_second) out[geometry.pitch + k] = bins.second;
    }
  }
}

template <typename Real, int planes, Transform kTransform>
__global__ void __launch_bounds__(most_row_threads(kTransform), sizeof(Real) == 4 ? 2 : 1)
    gradient_rows_kernel(const GradientRowsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  if constexpr (kTransform == Transform::kInRegisters) {
    gradient_rows_in_registers<Real, planes>(arguments, shared_memory);
  } else {
    gradient_rows_in_shared<Real, planes>(arguments, shared_memory);
  }
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
  const auto kernel = tiling.transform == Transform::kInRegisters
                          ? &gradient_rows_kernel<Real, planes, Transform::kInRegisters>
                          : &gradient_rows_kernel<Real, planes, Transform::kInShared>;
  launch_row_kernel(kernel, arguments, planes, tiling, "phase_image_gradient", target);
}

void gradient_rows(const PhaseImageGradientParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? launch_gradient_rows<Real, 3>(params, target)
                      : launch_gradient_rows<Real, 1>(params, target);
  });
}

}  // namespace fvfast::cuda
