// Noise injection: out = images + std * normal + uniform_width * uniform.
//
// The noise of a tile of consecutive elements is made (noise_block.h), then added. Neither the
// order of the tiles nor the threads that make them matter, because a counter says where its
// numbers belong.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "cpu/noise_block.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int64_t kTile = 16 * kBlock;  // elements of one unit of work, at most
constexpr int64_t kGrain = 32 * 1024;   // elements worth a thread

// A dimension to walk along: what one step adds to each position.
struct Dim {
  int64_t size;
  int64_t image_stride;
  int64_t out_stride;
  int64_t element_stride;  // to the number of the element within its image
  int64_t index_stride;    // to the index of the image in the batch
};

struct Position {
  int64_t image;
  int64_t out;
  int64_t element;
  int64_t index;
};

// The images as a set of rows: one inner dimension, and the outer ones in the order of memory.
struct Rows {
  Dim row;
  Dim outer[kMaxDims];
  int outer_count;
  int64_t tiles;  // per row
  int64_t units;  // tiles in all
};

// What a kernel is given besides its range of units.
struct Task {
  const NoiseParams* params;
  Rows rows;
};

Rows rows_of(const NoiseParams& params) {
  // Dimensions that are contiguous with their inner neighbor merge with it, those of size 1
  // vanish. The row starts as a single element, and grows or is pushed out as the loop goes
  // outwards.
  Rows rows{};
  rows.row = {1, 1, 1, 1, 0};
  int64_t elements = 1;
  bool row_is_empty = true;
  Dim inner[kMaxDims];
  int count = 0;
  for (int d = params.dims - 1; d >= 1; --d) {
    const Dim dim = {params.sizes[d], params.image_strides[d], params.out_strides[d], elements, 0};
    elements *= dim.size;
    if (dim.size == 1) continue;
    Dim& last = count > 0 ? inner[count - 1] : rows.row;
    if (row_is_empty) {
      rows.row = dim;
      row_is_empty = false;
    } else if (dim.image_stride == last.size * last.image_stride &&
               dim.out_stride == last.size * last.out_stride) {
      last.size *= dim.size;
    } else {
      inner[count++] = dim;
    }
  }
  inner[count++] = {params.sizes[0], params.image_strides[0], params.out_strides[0], 0, 1};

  // Rows are visited in the order in which they lie in memory, whatever their numbers: of a
  // channels_last image, each line is read once for all its channels.
  std::stable_sort(inner, inner + count,
                   [](const Dim& a, const Dim& b) { return a.out_stride > b.out_stride; });
  int64_t row_count = 1;
  for (int d = 0; d < count; ++d) {
    rows.outer[d] = inner[d];
    row_count *= inner[d].size;
  }
  rows.outer_count = count;
  rows.tiles = divided_up(rows.row.size, kTile);
  rows.units = row_count * rows.tiles;
  return rows;
}

// Walks the rows from a given one on, like the wheels of an odometer.
class RowWalk {
 public:
  RowWalk(const Rows& rows, int64_t row) : rows_(rows) {
    for (int d = rows.outer_count - 1; d >= 0; --d) {
      index_[d] = row % rows.outer[d].size;
      row /= rows.outer[d].size;
      move(rows.outer[d], index_[d]);
    }
  }

  const Position& position() const { return position_; }

  void next() {
    for (int d = rows_.outer_count - 1; d >= 0; --d) {
      move(rows_.outer[d], 1);
      if (++index_[d] < rows_.outer[d].size) return;
      move(rows_.outer[d], -index_[d]);
      index_[d] = 0;
    }
  }

 private:
  void move(const Dim& dim, int64_t steps) {
    position_.image += steps * dim.image_stride;
    position_.out += steps * dim.out_stride;
    position_.element += steps * dim.element_stride;
    position_.index += steps * dim.index_stride;
  }

  const Rows& rows_;
  int64_t index_[kMaxDims] = {};
  Position position_ = {};
};

// Adds noise to `count` <= kBlock elements. Two loops, because `out` may be `images`: this way the
// compiler sees that no store changes a later load.
template <typename Element, typename Storage, typename Real>
FVFAST_HOST_DEVICE void add_noise(const Storage* images, int64_t image_stride, Storage* out,
                                  int64_t out_stride, int count, const Real* noise) {
  Real values[kBlock];
  for (int i = 0; i < count; ++i) {
    values[i] = Element::load(images[i * image_stride]) + noise[i];
  }
  for (int i = 0; i < count; ++i) out[i * out_stride] = Element::store(values[i]);
}

// One tile of a row: its elements [begin, end).
template <typename Element>
FVFAST_HOST_DEVICE void noise_tile(const Task& task, const PhiloxBlock& philox,
                                   const Position& position, int64_t begin, int64_t end) {
  using Storage = typename Element::Storage;
  using Real = typename Element::Real;
  const NoiseParams& params = *task.params;
  const Dim& row = task.rows.row;
  alignas(64) Real made[kTile + kBlock];  // whole blocks, and up to three elements before the first
  const Real* noise =
      fill_noise<Real>(philox, position.element + begin, end - begin, static_cast<Real>(params.std),
                       static_cast<Real>(params.uniform_width), made);
  const Storage* images =
      static_cast<const Storage*>(params.images) + position.image + begin * row.image_stride;
  Storage* out = static_cast<Storage*>(params.out) + position.out + begin * row.out_stride;
  for (int64_t i = 0; i < end - begin; i += kBlock) {
    const int count = static_cast<int>(std::min<int64_t>(kBlock, end - begin - i));
    const Storage* from = images + i * row.image_stride;
    Storage* to = out + i * row.out_stride;
    if (count == kBlock && row.image_stride == 1 && row.out_stride == 1) {
      add_noise<Element>(from, 1, to, 1, kBlock, noise + i);  // constants: whole vectors
    } else {
      add_noise<Element>(from, row.image_stride, to, row.out_stride, count, noise + i);
    }
  }
}

inline PhiloxBlock philox_of(const NoiseParams& params, int64_t index) {
  return PhiloxBlock(params.seed, params.step, params.identities[index], Purpose::kNoise);
}

// The tiles [begin, end) of all rows.
template <typename Element>
struct NoiseTiles {
  template <SimdLevel level>
  static FVFAST_HOST_DEVICE void run(const Task& task, int64_t begin, int64_t end) {
    const Rows& rows = task.rows;
    RowWalk walk(rows, begin / rows.tiles);
    int64_t index = walk.position().index;
    PhiloxBlock philox = philox_of(*task.params, index);
    int64_t tile = begin % rows.tiles;
    for (int64_t unit = begin; unit < end; ++unit) {
      if (index != walk.position().index) {
        index = walk.position().index;
        philox = philox_of(*task.params, index);
      }
      const int64_t first = tile * kTile;
      noise_tile<Element>(task, philox, walk.position(), first,
                          std::min(first + kTile, rows.row.size));
      if (++tile == rows.tiles) {
        tile = 0;
        walk.next();
      }
    }
  }
};

}  // namespace

void inject_noise(const NoiseParams& params) {
  for (int d = 0; d < params.dims; ++d) {
    if (params.sizes[d] == 0) return;
  }
  const Task task = {&params, rows_of(params)};
  const auto add_to_tiles = with_element(
      params.dtype, [](auto element) { return select_version<NoiseTiles<decltype(element)>>(); });
  const int64_t tile_elements = std::min(task.rows.row.size, kTile);
  parallel_for(task.rows.units, std::max<int64_t>(1, kGrain / tile_elements),
               [&](int64_t begin, int64_t end) { add_to_tiles(task, begin, end); });
}

}  // namespace fvfast::cpu
