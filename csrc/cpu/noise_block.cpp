// The noise of consecutive elements, made in three passes over some blocks at a time: the words,
// the radii of normal numbers, and the rest. Each number goes through a long chain of operations
// that depend on one another. In short loops of one pass, a processor works on several numbers at
// once; in a single long one it would wait for one chain after the other.
#include "cpu/noise_block.h"

#include <algorithm>
#include <cstdint>

#include "common/normal.h"
#include "cpu/simd.h"

namespace fvfast::cpu {
namespace {

// Their words and radii stay in the first cache. Enough for 1024 elements that begin anywhere.
constexpr int kBlocksAtOnce = 17;

// The words of some blocks, and the squared radii of their normal numbers.
template <typename Real>
struct Blocks {
  alignas(64) BlockWords words[kBlocksAtOnce];
  alignas(64) Real squares[kBlocksAtOnce][2][kLanes];
};

template <typename Real>
FVFAST_HOST_DEVICE void make_squares(Blocks<Real>& blocks, int count) {
  for (int b = 0; b < count; ++b) {
    for (int pair = 0; pair < 2; ++pair) {
      for (int lane = 0; lane < kLanes; ++lane) {
        squared_radius(blocks.words[b][2 * pair][lane], &blocks.squares[b][pair][lane]);
      }
    }
  }
}

// A loop for each kind of noise, so that its constants stay in registers.
template <bool kNormal, bool kUniform, typename Real>
FVFAST_HOST_DEVICE void make_noise(const Blocks<Real>& blocks, int count, Real std,
                                   Real uniform_width, Real* noise) {
  for (int b = 0; b < count; ++b, noise += kBlock) {
    const BlockWords& words = blocks.words[b];
    for (int lane = 0; lane < kLanes; ++lane) {
      Real values[4] = {};
      if constexpr (kUniform) {
        for (int word = 0; word < 4; ++word) {
          values[word] = uniform_width * uniform_of_low_bits<Real>(words[word][lane]);
        }
      }
      if constexpr (kNormal) {
        for (int pair = 0; pair < 2; ++pair) {
          Real cosine, sine;
          normal_direction(words[2 * pair + 1][lane], &cosine, &sine);
          const Real radius = std * std::sqrt(blocks.squares[b][pair][lane]);
          values[2 * pair] += radius * cosine;
          values[2 * pair + 1] += radius * sine;
        }
      }
      for (int word = 0; word < 4; ++word) noise[4 * lane + word] = values[word];
    }
  }
}

// The noise of `count` blocks, the first of which begins with the counter `first`.
template <typename Real>
struct FillBlocks {
  template <SimdLevel level>
  static FVFAST_HOST_DEVICE void run(const PhiloxBlock& philox, uint32_t first, int64_t count,
                                     Real std, Real uniform_width, Real* noise) {
    Blocks<Real> blocks;
    for (; count > 0; count -= kBlocksAtOnce) {
      const int some = static_cast<int>(std::min<int64_t>(count, kBlocksAtOnce));
      philox_words<level>(philox, first, some, blocks.words);
      if (std > 0) make_squares(blocks, some);
      if (std > 0 && uniform_width > 0) {
        make_noise<true, true>(blocks, some, std, uniform_width, noise);
      } else if (std > 0) {
        make_noise<true, false>(blocks, some, std, uniform_width, noise);
      } else {
        make_noise<false, true>(blocks, some, std, uniform_width, noise);
      }
      first += kBlocksAtOnce * kLanes;
      noise += kBlocksAtOnce * kBlock;
    }
  }
};

}  // namespace

template <typename Real>
const Real* fill_noise(const PhiloxBlock& philox, int64_t element, int64_t count, Real std,
                       Real uniform_width, Real* noise) {
  const int64_t skipped = element % 4;
  const int64_t blocks = (skipped + count + kBlock - 1) / kBlock;
  if (std > 0 || uniform_width > 0) {
    select_version<FillBlocks<Real>>()(philox, static_cast<uint32_t>(element / 4), blocks, std,
                                       uniform_width, noise);
  } else {
    std::fill_n(noise, blocks * kBlock, Real(0));
  }
  return noise + skipped;
}

template const float* fill_noise(const PhiloxBlock&, int64_t, int64_t, float, float, float*);
template const double* fill_noise(const PhiloxBlock&, int64_t, int64_t, double, double, double*);

}  // namespace fvfast::cpu
