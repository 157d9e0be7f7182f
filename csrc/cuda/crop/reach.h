// Which boxes reach a tile of the image, and with which of their samples.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bilinear.h"
#include "cuda/crop/gradient_tile.h"
#include "cuda/launch.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kCropsPerLook = kWarp;  // a lane looks at one box

// Samples of a crop: those that reach a tile, [begin, end). An odd number of words, so that
// neighboring lanes meet different banks.
struct Reach {
  int begin, end;
  int piece;   // of them that are done at a time
  int pieces;  // that this makes
  int sparse;  // whether few read the same pixel
};

// Padded, so that neighboring lanes meet different banks.
struct PaddedAxis {
  Axis axis;
  double unused;
};

// What a block asks of one axis of the boxes.
struct Question {
  int size;       // samples
  int length;     // pixels
  int low, high;  // samples with lower pixels in [low, high] reach the tile
  int most;       // samples of a piece
};

// A range of samples that contains those whose lower pixel is in [low, high]. It is as small as
// possible, except for boxes that are tiny or enormous. All lanes of a warp call this, with the
// axis and the question in shared memory.
__device__ inline Reach reach_of(const Axis& axis, const Question& question) {
  const int size = question.size;
  const float spacing = axis.spacing();
  Reach reach = {0, size, 0, 0, fabsf(spacing) >= 0.9f};
  if (fabsf(spacing) > 1e-6f && fabsf(spacing) < 1e30f) {
    const double per_pixel = 1 / spacing;
    // What lies outside the image reaches no tile.
    const double left = (max(question.low, 0) - axis.first()) * per_pixel;
    const double right = (min(question.high + 1, question.length - 1) - axis.first()) * per_pixel;
    // More than the rounding of the spacing adds up to, and that of positions in a long image.
    const double margin = 0.01 + 1e-6 * size;
    const double begin = ceil(fmin(left, right) - margin);
    const double end = floor(fmax(left, right) + margin) + 1;
    reach.begin = static_cast<int>(fmin(fmax(begin, 0.0), static_cast<double>(size)));
    reach.end = static_cast<int>(fmin(fmax(end, 0.0), static_cast<double>(size)));
  }
  // Drop the sample at each end that lies in the margin, or at the first pixel of the next tile.
#pragma unroll 1
  for (int i = 0; i < 2; ++i) {
    if (reach.begin >= reach.end) continue;
    const Sample sample = axis.sample(i != 0 ? reach.end - 1 : reach.begin);
    const int lower = static_cast<int>(sample.lower);
    if (sample.inside && lower >= question.low && lower <= question.high) continue;
    if (i != 0) {
      --reach.end;
    } else {
      ++reach.begin;
    }
  }
  // Pieces of about the same size.
  const int samples = reach.end - reach.begin;
  reach.pieces = max((samples + question.most - 1) / question.most, 1);
  reach.piece = (samples + reach.pieces - 1) / reach.pieces;
  return reach;
}

// What a block knows of kCropsPerLook boxes: arrays in shared memory.
struct BoxLook {
  PaddedAxis *row_axis, *column_axis;
  Reach *row_reach, *column_reach;
  Question* questions;  // to the rows, and to the columns
  unsigned* reaching;   // a bit for each box whose rows, or columns, reach the tile
};

// Asks which boxes reach the tile. A barrier must follow.
__device__ __forceinline__ void pose_questions(const CropGradientParams& params, int first_row,
                                               int first_pixel, const BoxLook& look) {
  look.questions[0] = {static_cast<int>(params.height), static_cast<int>(params.image_height),
                       first_row - 1, first_row + kTileRows - 1, kPieceRows};
  look.questions[1] = {static_cast<int>(params.width), static_cast<int>(params.image_width),
                       first_pixel - 1, first_pixel + kTileColumns - 1, kPieceColumns};
}

// A box of an array, read at once where that is aligned.
__device__ __forceinline__ Box read_box(const CropGradientParams& params, int64_t index) {
  if (params.box_dtype != DType::kFloat32 || !is_aligned_to<16>(params.boxes)) {
    return box_at(params.boxes, params.box_dtype, index);
  }
  const float4 box = static_cast<const float4*>(params.boxes)[index];
  return {box.x, box.y, box.z, box.w};
}

// Whether the samples between `start` and `stop` may reach the tile: in most tiles this tells soon
// that no box does. Not so for what is not finite, which has no samples inside the image.
__device__ __forceinline__ bool may_reach(double start, double stop, const Question& question) {
  const double last = question.length - 1;
  return fmin(start, stop) * last <= question.high + 2 &&
         fmax(start, stop) * last >= question.low - 1;
}

// Answers them for the boxes from `first_crop` on: one warp looks at the rows of the boxes, another
// at their columns. A barrier must follow. With `kBriefly` both first ask whether any box is near,
// which takes registers that not every kernel has.
template <bool kBriefly>
__device__ __forceinline__ void look_at_boxes(const CropGradientParams& params,
                                              const TileThread& thread, int64_t image,
                                              int64_t first_crop, const BoxLook& look) {
  if (thread.index < 2 * kWarp) {
    const bool rows = thread.index < kWarp;
    const Question& question = look.questions[rows ? 0 : 1];
    // Unsigned: the loop over looks would keep the other half of a signed number in a register.
    const int64_t crop = first_crop | static_cast<unsigned>(thread.lane);
    const int64_t index = image * params.crops + min(crop, params.crops - 1);
    Box box;
    if constexpr (kBriefly) {
      box = read_box(params, index);
      const bool near = may_reach(box.y1, box.y2, look.questions[0]) &&
                        may_reach(box.x1, box.x2, look.questions[1]);
      if (!__any_sync(0xffffffffu, near)) {
        if (thread.lane == 0) look.reaching[rows ? 0 : 1] = 0;
        return;
      }
    } else {
      box = box_at(params.boxes, params.box_dtype, index);
    }
    Axis& axis = (rows ? look.row_axis : look.column_axis)[thread.lane].axis;
    axis = Axis(rows ? box.y1 : box.x1, rows ? box.y2 : box.x2, question.size, question.length);
    __syncwarp();  // from here on the axis lies in shared memory alone
    const Reach reach = reach_of(axis, question);
    (rows ? look.row_reach : look.column_reach)[thread.lane] = reach;
    const bool reaches = crop < params.crops && reach.begin < reach.end;
    const unsigned ballot = __ballot_sync(0xffffffffu, reaches);
    if (thread.lane == 0) look.reaching[rows ? 0 : 1] = ballot;
  }
}

}  // namespace fvfast::cuda
