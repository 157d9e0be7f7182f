// The gradient of cropping with respect to the image, as a gather: blocks add up the contributions
// of all crops to a tile of the image, in a fixed order. There are no atomics, and the bits are the
// same in every run.
//
// Like the crop it is separable. For each box that reaches the tile (reach.h), in pieces of a crop:
//
//   - the gradient of the piece is staged in shared memory, 16 bytes at a time (stage.h);
//   - along y, a thread has a column of the crop: it blends the rows of the crop that read each row
//     of the tile (sample_lists.h, gather.h);
//   - along x, a thread has columns of the image: it adds the columns of the crop that read them to
//     sums in registers, which are written once, at the end (gather.h).
//
// The work on a tile is dealt to several parts (strips.h), since the tiles that most crops reach
// would have all others wait. Where there are clusters, each tile has one, and a block of it has a
// part. Other devices have a block for each part of a tile where tiles are few, and another kernel
// adds up the parts.
//
// Traffic: the image's gradient and the transparency once. The gradient of a crop once, except for
// samples between two tiles, which both need: 9/8 of the rows, and a sector at each end of a row.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/cluster.h"
#include "cuda/crop/gradient_kernels.h"
#include "cuda/crop/gradient_plan.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

// Whether each row of the gradient consists of whole groups of `elements`, aligned to `bytes`.
static bool has_packs(const CropGradientParams& params, bool interleaved, int64_t elements,
                      uintptr_t bytes) {
  const int64_t sizes[4] = {params.batch, params.crops, params.channels, params.height};
  const int64_t row = params.width * (interleaved ? params.channels : 1);
  bool packs = (interleaved || params.width == 1 || params.gradient_strides[4] == 1) &&
               row % elements == 0 && reinterpret_cast<uintptr_t>(params.gradient) % bytes == 0;
  for (int d = 0; d < 4; ++d) {
    if ((interleaved && d == 2) || sizes[d] == 1) continue;
    packs = packs && params.gradient_strides[d] % elements == 0;
  }
  return packs;
}

template <typename Real>
GradientPlan plan_for(const CropGradientParams& params) {
  const bool clusters =
      has_clusters(&crop_gradient_cluster_kernel<Real, Float32, 1>, "crop_gradient");
  return plan_of(params, tiles_of(params) * planes_of<Real>(params), clusters);
}

template <typename Real>
void launch_add_parts_kernel(const CropGradientParams& params, const Target& target) {
  const unsigned blocks =
      grid_x(divided_up(params.image_height * params.image_width, kAddThreads), "crop_gradient");
  const int64_t planes = params.batch * params.channels;
  for (int64_t first = 0; first < planes; first += kGridYz) {
    add_parts_kernel<Real>
        <<<dim3(blocks, grid_yz(planes - first)), kAddThreads, 0, stream_of(target)>>>(
            params, static_cast<const Real*>(params.scratch), pixels_of(params), first);
    check_launch("crop_gradient");
  }
}

template <typename Element>
GradientTiling tiling_of(const CropGradientParams& params, const GradientPlan& plan,
                         bool interleaved) {
  GradientTiling tiling{};
  tiling.tiles = static_cast<unsigned>(tiles_of(params));
  tiling.column_tiles = static_cast<unsigned>(divided_up(params.image_width, kTileColumns));
  tiling.parts = plan.parts;
  tiling.block_parts = plan.has_block_for_each_part() ? 1 : plan.parts;
  tiling.looks = static_cast<unsigned>(divided_up(params.crops, kCropsPerLook));
  tiling.pixels = pixels_of(params);
  tiling.interleaved = interleaved;
  // Rows in whole sectors of 32 bytes are read by sectors, so that no two warps share one.
  tiling.align = has_packs(params, interleaved, 2 * kPack<Element>, 32) ? 2 * kPack<Element>
                 : has_packs(params, interleaved, kPack<Element>, 16)   ? kPack<Element>
                                                                        : 0;
  return tiling;
}

template <typename Real, typename Element, int kGroup>
void launch_crop_gradient_kernel(CropGradientParams params, bool interleaved,
                                 const Target& target) {
  const GradientPlan plan = plan_for<Real>(params);
  const unsigned blocks =
      grid_x(tiles_of(params) * (plan.has_block_for_each_part() ? plan.parts : 1), "crop_gradient");
  GradientTiling tiling = tiling_of<Element>(params, plan, interleaved);
  const CropGradientParams whole = params;
  if (plan.by == GradientPlan::By::kScratch) {
    params.image_gradient = params.scratch;
    params.transparency = nullptr;
    params.flags = nullptr;
  }
  const int64_t groups = params.channels / kGroup;
  const dim3 block(kTileColumns, kGroup);
  for (int64_t image = 0; image < params.batch; image += kGridYz) {
    for (int64_t group = 0; group < groups; group += kGridYz) {
      tiling.first_image = image;
      tiling.first_group = group;
      const dim3 grid(blocks, grid_yz(groups - group), grid_yz(params.batch - image));
      if (plan.by == GradientPlan::By::kClusters) {
        launch_clusters(&crop_gradient_cluster_kernel<Real, Element, kGroup>, grid, block,
                        plan.parts, target, "crop_gradient", params, tiling);
      } else {
        crop_gradient_kernel<Real, Element, kGroup>
            <<<grid, block, 0, stream_of(target)>>>(params, tiling);
        check_launch("crop_gradient");
      }
    }
  }
  if (plan.by == GradientPlan::By::kScratch) launch_add_parts_kernel<Real>(whole, target);
}

// Whether the channels of a pixel and the pixels of a row follow one another.
static bool is_interleaved(const CropGradientParams& params) {
  return params.gradient_strides[2] == 1 &&
         (params.width == 1 || params.gradient_strides[4] == params.channels);
}

template <typename Real, typename Element>
void launch_by_channels(const CropGradientParams& params, const Target& target) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    const bool interleaved = is_interleaved(params);
    if (group_of<Real>(params) == 3) {
      return launch_crop_gradient_kernel<Real, Element, 3>(params, interleaved, target);
    }
    if (group_of<Real>(params) == 4) {
      return launch_crop_gradient_kernel<Real, Element, 4>(params, interleaved, target);
    }
  }
  launch_crop_gradient_kernel<Real, Element, 1>(params, false, target);
}

int64_t crop_gradient_scratch(const CropGradientParams& params, const Target& target) {
  const DeviceGuard guard(target, "crop_gradient");
  return with_real(params.image_dtype, [&](auto real) -> int64_t {
    using Real = decltype(real);
    const GradientPlan plan = plan_for<Real>(params);
    if (plan.by != GradientPlan::By::kScratch) return 0;
    return plan.parts * pixels_of(params) * int64_t{sizeof(Real)};
  });
}

void crop_gradient(const CropGradientParams& params, const Target& target) {
  if (pixels_of(params) == 0) return;
  const DeviceGuard guard(target, "crop_gradient");
  with_real(params.image_dtype, [&](auto real) {
    with_element(params.gradient_dtype, [&](auto element) {
      launch_by_channels<decltype(real), decltype(element)>(params, target);
    });
  });
}

}  // namespace fvfast::cuda
