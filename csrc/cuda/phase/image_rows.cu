// Kernel B: from the half image, transformed along the columns, to the image.
//
// A block owns pairs of rows: see rows.h. In the loops over memory a warp takes consecutive columns
// of one row.
//
// Traffic: reads the complex half image, writes the image, each once.
#include "common/dispatch.h"
#include "cuda/launch.h"
#include "cuda/phase/kernels.h"
#include "cuda/phase/pixels.h"
#include "cuda/phase/rows.h"
#include "cuda/phase/scratch.h"
#include "ops.h"

namespace fvfast::cuda {

template <typename Real>
struct ImageRowsArguments {
  const Complex<Real>* half_image;  // (N, C, H, pitch)
  const double* energies;           // (N, parts)
  const double* constants;          // (N, C)
  int64_t parts;                    // of the columns of all channels
  Real* image;                      // (N, C, H, W)
  SpectrumStatistics* statistics;
  double epsilon, low, high;
  double colors[3][3];
  RowsGeometry geometry;
};

// The first warp computes mean and deviation of this block's image, for all threads after the next
// barrier.
template <typename Real>
__device__ __forceinline__ void find_moments(const ImageRowsArguments<Real>& arguments,
                                             int64_t image, ImageMoments* moments) {
  if (threadIdx.x >= kWarp) return;
  const SpectrumSizes& sizes = arguments.geometry.sizes;
  const ImageMoments found =
      image_moments(arguments.energies + image * arguments.parts, arguments.parts,
                    arguments.constants + image * sizes.channels, sizes);
  if (threadIdx.x != 0) return;
  *moments = found;
  if (blockIdx.x == 0) {
    arguments.statistics[image].image_mean = found.mean;
    arguments.statistics[image].image_std = found.deviation;
  }
}

// The bins of a pair of rows at one frequency, of all planes that share colors.
template <typename Real, int planes>
struct PairOfBins {
  int lane, k;
  Complex<Real> first[planes], second[planes];

  // Item `number` of the block's pairs and frequencies.
  __device__ __forceinline__ void read(const ImageRowsArguments<Real>& arguments,
                                       const RowsOfBlock<planes>& rows, int number) {
    const SpectrumSizes& sizes = arguments.geometry.sizes;
    const int half = static_cast<int>(sizes.half());
    const int64_t pitch = arguments.geometry.pitch;
    const int pair = number / half;
    lane = pair * planes;
    k = number - pair * half;
    const int64_t row = rows.first_row + 2 * pair;
    const bool has_second = row + 1 < sizes.height;
#pragma unroll
    for (int i = 0; i < planes; ++i) {
      const Complex<Real>* bins =
          arguments.half_image + ((rows.plane + i) * sizes.height + row) * pitch + k;
      first[i] = bins[0];
      second[i] = {0, 0};
      if (has_second) second[i] = bins[pitch];
    }
  }

  // Mixes the planes, which a transform does not notice, and writes the bins of the complex
  // sequences of which the pair is the two parts.
  __device__ __forceinline__ void write(const PixelForward<Real, planes>& forward, int width,
                                        Complex<Real>* values) {
    if (k == 0) {
#pragma unroll
      for (int i = 0; i < planes; ++i) {
        first[i].re -= forward.mean;
        second[i].re -= forward.mean;
      }
    }
#pragma unroll
    for (int j = 0; j < planes; ++j) {
      const Complex<Real> a = mixed(forward, first, j), b = mixed(forward, second, j);
      Complex<Real>* const sequence = values + (lane + j) * padded(width);
      if (k == 0 || 2 * k == width) {  // real rows: the inverse transform ignores the rest
        sequence[k] = {a.re, b.re};
      } else {
        sequence[k] = {a.re - b.im, a.im + b.re};
        sequence[width - k] = {a.re + b.im, b.re - a.im};
      }
    }
  }

 private:
  static __device__ __forceinline__ Complex<Real> mixed(const PixelForward<Real, planes>& forward,
                                                        const Complex<Real> (&bins)[planes],
                                                        int j) {
    Real re[planes], im[planes];
#pragma unroll
    for (int i = 0; i < planes; ++i) {
      re[i] = bins[i].re;
      im[i] = bins[i].im;
    }
    return {forward.mixed(re, j), forward.mixed(im, j)};
  }
};

template <typename Real, int planes>
__device__ __forceinline__ void image_rows_in_registers(const ImageRowsArguments<Real>& arguments,
                                                        ImageMoments* shared_moments,
                                                        void* shared) {
  const RowsGeometry& geometry = arguments.geometry;
  const RowsOfBlock<planes> rows(geometry);
  const int width = static_cast<int>(geometry.sizes.width);
  const RegisterMemory<Real> memory(shared, width, geometry.lanes);

  // Three planes have two items for nearly every thread: both are asked for before the first is
  // waited for.
  constexpr int kTogether = 2;
  const int items = rows.pairs * static_cast<int>(geometry.sizes.half());
  const int step = static_cast<int>(blockDim.x);
  PairOfBins<Real, planes> bins[kTogether];
  const auto read = [&](int item) {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (item + i * step < items) bins[i].read(arguments, rows, item + i * step);
    }
  };
  int item = static_cast<int>(threadIdx.x);
  read(item);
  find_moments(arguments, rows.image, shared_moments);
  memory.prepare(width);
  __syncthreads();
  const PixelForward<Real, planes> forward(arguments, shared_moments->mean,
                                           shared_moments->deviation);
  while (item < items) {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (item + i * step < items) bins[i].write(forward, width, memory.values);
    }
    item += kTogether * step;
    read(item);
  }
  __syncthreads();
  const RowOfThread<planes> own(geometry, rows);
  const AlongLane place = {own.lane * padded(width)};
  Complex<Real> points[kPoints] = {};
  if (own.valid) {
#pragma unroll
    for (int i = 0; i < kPoints; ++i) {
      points[i] = memory.values[place.plain(own.thread + i * own.threads)];
    }
  }
  __syncthreads();
  register_transform<true>(points, memory, place, width, own.thread, own.valid);
  if (!own.valid) return;
  Real* out = arguments.image +
              ((rows.plane + own.plane) * geometry.sizes.height + own.row) * width + own.thread;
#pragma unroll
  for (int i = 0; i < kPoints; ++i) {
    out[i * own.threads] = forward.color(points[i].re);
    if (own.has_second) out[i * own.threads + width] = forward.color(points[i].im);
  }
}

template <typename Real, int planes>
__device__ __forceinline__ void image_rows_in_shared(const ImageRowsArguments<Real>& arguments,
                                                     ImageMoments* shared_moments, void* shared) {
  const RowsGeometry& geometry = arguments.geometry;
  const SpectrumSizes& sizes = geometry.sizes;
  const RowsOfBlock<planes> rows(geometry);
  const int width = static_cast<int>(sizes.width), half = static_cast<int>(sizes.half());
  const TransformMemory<Real> memory(shared, width, geometry.lanes);
  const Skewed layout = {geometry.lanes, geometry.plan.skew};
  find_moments(arguments, rows.image, shared_moments);
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

  const PixelForward<Real, planes> forward(arguments, shared_moments->mean,
                                           shared_moments->deviation);
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

template <typename Real, int planes, Transform kTransform>
__global__ void __launch_bounds__(most_row_threads(kTransform), sizeof(Real) == 4 ? 2 : 1)
    image_rows_kernel(const ImageRowsArguments<Real> arguments) {
  extern __shared__ double shared_memory[];
  __shared__ ImageMoments moments;
  if constexpr (kTransform == Transform::kInRegisters) {
    image_rows_in_registers<Real, planes>(arguments, &moments, shared_memory);
  } else {
    image_rows_in_shared<Real, planes>(arguments, &moments, shared_memory);
  }
}

template <typename Real, int planes>
void launch_image_rows(const PhaseImageParams& params, const Target& target) {
  const SpectrumSizes& sizes = params.sizes;
  const DeviceGuard guard(target, "phase_image");
  const Tiling tiling = row_tiling(params.dtype, sizes, planes == 3, target.device);
  const Tiling columns = column_tiling(params.dtype, sizes, target.device);
  const PhaseImageScratch scratch(params.scratch, params.dtype, sizes);
  ImageRowsArguments<Real> arguments{};
  arguments.half_image = static_cast<const Complex<Real>*>(scratch.half_image);
  arguments.energies = scratch.energies;
  arguments.constants = scratch.constants;
  arguments.parts = sizes.channels * column_parts(sizes, columns.lanes);
  arguments.image = static_cast<Real*>(params.image);
  arguments.statistics = params.statistics;
  arguments.epsilon = params.epsilon;
  arguments.low = params.low;
  arguments.high = params.high;
  std::copy_n(&params.colors[0][0], 9, &arguments.colors[0][0]);
  arguments.geometry = rows_geometry(sizes, planes, tiling);
  const auto kernel = tiling.transform == Transform::kInRegisters
                          ? &image_rows_kernel<Real, planes, Transform::kInRegisters>
                          : &image_rows_kernel<Real, planes, Transform::kInShared>;
  launch_row_kernel(kernel, arguments, planes, tiling, "phase_image", target);
}

void image_rows(const PhaseImageParams& params, const Target& target) {
  with_real(params.dtype, [&](auto real) {
    using Real = decltype(real);
    params.has_colors ? launch_image_rows<Real, 3>(params, target)
                      : launch_image_rows<Real, 1>(params, target);
  });
}

}  // namespace fvfast::cuda
