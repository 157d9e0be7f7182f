// The pairs of rows that the blocks of kernels B and E have: image_rows.cu and gradient_rows.cu.
//
// Two real rows are the real and the imaginary part of one complex transform of the whole width,
// whether that is even or odd. Three planes that share colors are in the same block.
#pragma once

#include <cstdint>

#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/phase/fft.h"
#include "cuda/phase/register_fft.h"
#include "cuda/phase/spectrum.h"
#include "cuda/phase/tiling.h"
#include "ops.h"

namespace fvfast::cuda {

// Of a block.
constexpr int most_row_threads(Transform transform) {
  return transform == Transform::kInRegisters ? kRegisterRowThreads : kTransformThreads;
}

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

// The sequence of a thread, where the transform is in registers: threads that follow each other
// take elements that follow each other.
template <int planes>
struct RowOfThread {
  int thread, threads;  // of the sequence
  int lane, plane;
  int64_t row;      // the first of the pair
  bool has_second;  // whether the image has the other
  bool valid;       // whether there is such a pair

  __device__ __forceinline__ RowOfThread(const RowsGeometry& geometry,
                                         const RowsOfBlock<planes>& rows) {
    threads = static_cast<int>(geometry.sizes.width) / kPoints;
    lane = static_cast<int>(threadIdx.x) / threads;
    thread = static_cast<int>(threadIdx.x) - lane * threads;
    plane = lane % planes;
    row = rows.first_row + lane / planes * 2;
    has_second = row + 1 < geometry.sizes.height;
    valid = lane < rows.pairs * planes;
  }
};

inline RowsGeometry rows_geometry(const SpectrumSizes& sizes, int planes, const Tiling& tiling) {
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

}  // namespace fvfast::cuda
