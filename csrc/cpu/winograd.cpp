// Winograd convolutions F(2 x 2, 3 x 3), of 3 x 3 taps: 16 multiplications in place of 36 for each
// 2 x 2 outputs.
// Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
//
// A tile is 2 x 2 outputs, made from 4 x 4 pixels. Some tiles at a time are transformed to 16
// matrices (tiles, inputs), multiplied by those of the weights, one panel of outputs after another,
// and transformed back right away: except with the largest weights, all of it stays in the L2
// cache. Each tile is computed by itself, in the same order wherever it lies.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "common/macros.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kSide = 4;  // pixels of a tile, down and across
constexpr int kPoints = kWinogradPoints;
static_assert(kPoints == kSide * kSide);
constexpr int kOut = 2;  // outputs of a tile, down and across
constexpr int kPanel = kWinogradPanel;
constexpr int kGroup = 12;  // tiles that are multiplied at a time, at most
constexpr int kLine = 16;   // floats of a line of the cache
// Unused floats at the end of a tile's row: if rows had a power of two, those of a group would fall
// into the same set of the cache.
constexpr int kGap = 16;
constexpr int64_t kChain = 128;              // inputs that are added up one after the other
constexpr int64_t kPixelBytes = 256 * 1024;  // of the transformed pixels of a unit, about
// Larger weights do not stay in the L3 cache: then a unit takes as many tiles as it may.
constexpr int64_t kLargeWeightBytes = 8 * 1024 * 1024;
constexpr int64_t kFewTiles = 2 * kGroup, kMostTiles = 20 * kGroup;  // of a unit

// The registers of a level: lanes of a vector, and the tiles whose sums stay in registers.
template <SimdLevel level>
struct Registers {
  static constexpr int kLanes = 4;
  static constexpr int kTiles = 4;
};
template <>
struct Registers<SimdLevel::kAvx2> {
  static constexpr int kLanes = 8;
  static constexpr int kTiles = 6;
};
template <>
struct Registers<SimdLevel::kAvx512> {
  static constexpr int kLanes = 16;
  static constexpr int kTiles = 12;
};

// Values of neighboring channels, as the compiler computes with them; of 1 lane, a number.
template <int lanes>
struct Lanes {
  typedef float Value __attribute__((vector_size(lanes * sizeof(float))));
};
template <>
struct Lanes<1> {
  typedef float Value;
};

template <typename Value>
FVFAST_HOST_DEVICE void load(const float* from, Value& value) {
  std::memcpy(&value, from, sizeof(Value));
}

template <typename Value>
FVFAST_HOST_DEVICE void store(const Value& value, float* to) {
  std::memcpy(to, &value, sizeof(Value));
}

// How the work is cut into units: some tiles, and the panels of a group.
struct Task {
  const WinogradParams* params;
  int64_t tile_rows, tile_columns;  // of one image
  int64_t tiles;                    // of all images
  int64_t tiles_per_unit;
  int64_t blocks;  // of tiles
  int64_t panels;
  int64_t panels_per_unit;
  int64_t row;  // floats from one tile to the next in a matrix of transformed pixels

  explicit Task(const WinogradParams& p) : params(&p) {
    tile_rows = divided_up(p.out_height(), kOut);
    tile_columns = divided_up(p.out_width(), kOut);
    tiles = p.batch * tile_rows * tile_columns;
    panels = divided_up(p.outputs, kPanel);
    row = divided_up(p.inputs, kLine) * kLine + kGap;
    // Each block of tiles reads all weights.
    constexpr int64_t kFloat = sizeof(float);
    const int64_t weight_bytes = kPoints * p.inputs * panels * kPanel * kFloat;
    const int64_t fitting = kPixelBytes / (kPoints * row * kFloat);
    const int64_t most =
        weight_bytes > kLargeWeightBytes ? kMostTiles : std::clamp(fitting, kFewTiles, kMostTiles);
    const int64_t threads = max_threads();
    // The same number of blocks for each thread, or of groups of panels.
    blocks = divided_up(divided_up(tiles, most), threads) * threads;
    tiles_per_unit = std::max(divided_up(divided_up(tiles, blocks), kGroup) * kGroup, kFewTiles);
    blocks = divided_up(tiles, tiles_per_unit);
    panels_per_unit = divided_up(panels, std::min(panels, divided_up(threads, blocks)));
  }

  int64_t units() const { return blocks * divided_up(panels, panels_per_unit); }

  // Floats of the memory that a thread works in: the transformed pixels, products of one panel, and
  // a pixel outside the image.
  int64_t pixel_floats() const { return kPoints * tiles_per_unit * row; }
  int64_t product_floats() const { return kPoints * tiles_per_unit * kPanel; }
  int64_t scratch_floats() const { return pixel_floats() + product_floats() + row; }
};

// Where a tile lies.
struct Tile {
  int64_t image, y, x;  // y, x: of its first output

  FVFAST_HOST_DEVICE Tile(const Task& task, int64_t index) {
    x = index % task.tile_columns * kOut;
    index /= task.tile_columns;
    y = index % task.tile_rows * kOut;
    image = index / task.tile_rows;
  }
};

// Transform the channels of one vector: B^T d B, with a matrix B of 0 and +-1.
template <typename Value>
FVFAST_HOST_DEVICE void transform_pixels(const float* const (&pixels)[kPoints], int64_t channel,
                                         float* __restrict out, int64_t matrix) {
  Value d[kPoints];
  FVFAST_UNROLL
  for (int p = 0; p < kPoints; ++p) load(pixels[p] + channel, d[p]);
  Value t[kPoints];
  FVFAST_UNROLL
  for (int x = 0; x < kSide; ++x) {
    t[x] = d[x] - d[8 + x];
    t[4 + x] = d[4 + x] + d[8 + x];
    t[8 + x] = d[8 + x] - d[4 + x];
    t[12 + x] = d[4 + x] - d[12 + x];
  }
  FVFAST_UNROLL
  for (int y = 0; y < kSide; ++y) {
    const Value* v = t + y * kSide;
    float* to = out + y * kSide * matrix + channel;
    store<Value>(v[0] - v[2], to);
    store<Value>(v[1] + v[2], to + matrix);
    store<Value>(v[2] - v[1], to + 2 * matrix);
    store<Value>(v[1] - v[3], to + 3 * matrix);
  }
}

// Transform the pixels of one tile to row `out` of each matrix.
template <int lanes>
FVFAST_HOST_DEVICE void transform_tile(const WinogradParams& p, const Tile& tile,
                                       const float* zeros, float* out, int64_t matrix) {
  const float* pixels[kPoints];
  for (int i = 0; i < kSide; ++i) {
    const int64_t y = tile.y - p.pad_y + i;
    for (int j = 0; j < kSide; ++j) {
      const int64_t x = tile.x - p.pad_x + j;
      const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
      const int64_t pixel = (tile.image * p.height + y) * p.width + x;
      pixels[i * kSide + j] = inside ? p.images + pixel * p.inputs : zeros;
    }
  }
  int64_t c = 0;
  for (; c + lanes <= p.inputs; c += lanes) {
    transform_pixels<typename Lanes<lanes>::Value>(pixels, c, out, matrix);
  }
  for (; c < p.inputs; ++c) transform_pixels<float>(pixels, c, out, matrix);
}

// Rows of products, (tiles, kPanel), of rows of transformed pixels with weights (inputs, kPanel).
// The sums of kChain inputs are added up: the error grows with the length of a sum.
template <int lanes, int tiles>
FVFAST_HOST_DEVICE void multiply(const float* pixels, int64_t row, const float* weights,
                                 int64_t inputs, float* products) {
  using Value = typename Lanes<lanes>::Value;
  for (int half = 0; half < kPanel; half += 2 * lanes) {
    float* const out = products + half;
    for (int64_t first = 0; first < inputs; first += kChain) {
      const int64_t last = std::min(first + kChain, inputs);
      const float* from = weights + first * kPanel + half;
      Value sums[tiles][2] = {};
      for (int64_t c = first; c < last; ++c, from += kPanel) {
        Value w[2];
        load(from, w[0]);
        load(from + lanes, w[1]);
        FVFAST_UNROLL
        for (int t = 0; t < tiles; ++t) {
          const float pixel = pixels[t * row + c];
          sums[t][0] += pixel * w[0];
          sums[t][1] += pixel * w[1];
        }
      }
      FVFAST_UNROLL
      for (int t = 0; t < tiles; ++t) {
        FVFAST_UNROLL
        for (int i = 0; i < 2; ++i) {
          float* const to = out + t * kPanel + i * lanes;
          Value before{};
          if (first > 0) load(to, before);
          store<Value>(sums[t][i] + before, to);
        }
      }
    }
  }
}

// Transform products back, A^T m A, and finish the outputs of one vector.
template <typename Value>
FVFAST_HOST_DEVICE void transform_products(const WinogradParams& p, const float* products,
                                           int64_t matrix, int64_t output,
                                           const int64_t (&places)[kOut][kOut]) {
  Value s[kOut][kSide];
  FVFAST_UNROLL
  for (int j = 0; j < kSide; ++j) {
    Value m[kSide];
    FVFAST_UNROLL
    for (int i = 0; i < kSide; ++i) load(products + (i * kSide + j) * matrix, m[i]);
    s[0][j] = m[0] + m[1] + m[2];
    s[1][j] = m[1] - m[2] - m[3];
  }
  Value bias{};
  if (p.bias != nullptr) load(p.bias + output, bias);
  FVFAST_UNROLL
  for (int i = 0; i < kOut; ++i) {
    const Value values[kOut] = {s[i][0] + s[i][1] + s[i][2], s[i][1] - s[i][2] - s[i][3]};
    FVFAST_UNROLL
    for (int j = 0; j < kOut; ++j) {
      if (places[i][j] < 0) continue;
      const int64_t place = places[i][j] + output;
      Value value = values[j] + bias;
      if (p.term != nullptr) {
        Value term;
        load(p.term + place, term);
        value += term;
      }
      if (p.clamps) {
        // NaN stays NaN.
        const Value lowest = Value{} + p.lowest, highest = Value{} + p.highest;
        value = value < lowest ? lowest : value;
        value = value > highest ? highest : value;
      }
      store(value, p.out + place);
    }
  }
}

// One tile's outputs of a panel.
template <int lanes>
FVFAST_HOST_DEVICE void finish_tile(const WinogradParams& p, const Tile& tile,
                                    const float* products, int64_t matrix, int64_t first) {
  int64_t places[kOut][kOut];  // of the first output; -1 outside
  for (int i = 0; i < kOut; ++i) {
    for (int j = 0; j < kOut; ++j) {
      const int64_t y = tile.y + i, x = tile.x + j;
      const bool inside = y < p.out_height() && x < p.out_width();
      const int64_t pixel = (tile.image * p.out_height() + y) * p.out_width() + x;
      places[i][j] = inside ? pixel * p.outputs : -1;
    }
  }
  const int64_t count = std::min<int64_t>(kPanel, p.outputs - first);
  int64_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    transform_products<typename Lanes<lanes>::Value>(p, products + k, matrix, first + k, places);
  }
  for (; k < count; ++k) transform_products<float>(p, products + k, matrix, first + k, places);
}

// One unit of work, with scratch_floats() floats of memory to work in.
struct Convolution {
  template <SimdLevel level>
  static FVFAST_HOST_DEVICE void run(const Task& task, int64_t unit, float* scratch) {
    constexpr int kLanes = Registers<level>::kLanes, kTiles = Registers<level>::kTiles;
    static_assert(kGroup % kTiles == 0 && kPanel % (2 * kLanes) == 0);
    const WinogradParams& p = *task.params;
    const int64_t first = unit % task.blocks * task.tiles_per_unit;
    const int64_t first_panel = unit / task.blocks * task.panels_per_unit;
    const int64_t last_panel = std::min(first_panel + task.panels_per_unit, task.panels);
    const int64_t count = std::min(task.tiles_per_unit, task.tiles - first);
    const int64_t padded = divided_up(count, kTiles) * kTiles;
    float* pixels = scratch;
    float* products = pixels + task.pixel_floats();
    float* zeros = products + task.product_floats();
    const int64_t pixel_matrix = task.tiles_per_unit * task.row;
    const int64_t product_matrix = task.tiles_per_unit * kPanel;

    std::fill(zeros, zeros + p.inputs, 0.0f);
    for (int64_t t = 0; t < count; ++t) {
      transform_tile<kLanes>(p, Tile(task, first + t), zeros, pixels + t * task.row, pixel_matrix);
    }
    for (int64_t t = count; t < padded; ++t) {
      for (int point = 0; point < kPoints; ++point) {
        float* row = pixels + point * pixel_matrix + t * task.row;
        std::fill(row, row + p.inputs, 0.0f);
      }
    }
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      for (int point = 0; point < kPoints; ++point) {
        const float* weights = p.weights + (panel * kPoints + point) * p.inputs * kPanel;
        for (int64_t t = 0; t < padded; t += kTiles) {
          multiply<kLanes, kTiles>(pixels + point * pixel_matrix + t * task.row, task.row, weights,
                                   p.inputs, products + point * product_matrix + t * kPanel);
        }
      }
      for (int64_t t = 0; t < count; ++t) {
        finish_tile<kLanes>(p, Tile(task, first + t), products + t * kPanel, product_matrix,
                            panel * kPanel);
      }
    }
  }
};

// The first address from here on where a line of the cache begins.
float* aligned(float* address) {
  constexpr uintptr_t kBytes = kLine * sizeof(float);
  const auto first = (reinterpret_cast<uintptr_t>(address) + kBytes - 1) / kBytes * kBytes;
  return reinterpret_cast<float*>(first);
}

}  // namespace

void winograd_convolution(const WinogradParams& params) {
  const auto convolve = select_version<Convolution>();
  const Task task(params);
  const int64_t threads = std::min<int64_t>(max_threads(), task.units());
  const std::unique_ptr<float[]> memory(new float[threads * task.scratch_floats() + kLine]);
  float* const scratch = aligned(memory.get());
  parallel_pieces(task.units(), task.units(), [&](int64_t thread, int64_t begin, int64_t end) {
    float* own = scratch + thread * task.scratch_floats();
    for (int64_t unit = begin; unit < end; ++unit) convolve(task, unit, own);
  });
}

}  // namespace fvfast::cpu
