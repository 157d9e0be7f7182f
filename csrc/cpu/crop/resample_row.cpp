#include "cpu/crop/resample_row.h"

#if FVFAST_X86
#if defined(__GNUC__) && !defined(__clang__)
// The intrinsics of GCC 12 read an undefined vector on purpose, and warn about it.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

namespace fvfast::cpu {
namespace {

constexpr int kLanesOfRow = 16;
constexpr int kWindow = 2 * kLanesOfRow;  // elements that a permutation of two registers reaches

// The first `count` of 16 lanes.
inline __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= kLanesOfRow ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

}  // namespace

FVFAST_TARGET_AVX512 void resample_row_avx512(const float* row, int64_t length,
                                              const Samples<float>& samples, float* out) {
  const __m512i one = _mm512_set1_epi32(1);
  for (int i = samples.begin; i < samples.end; i += kLanesOfRow) {
    const int count = std::min(kLanesOfRow, samples.end - i);
    const __mmask16 lanes = first_lanes(count);
    const __m512i index = _mm512_maskz_loadu_epi32(lanes, samples.lower + i);
    // Positions are monotonic: the extremes are at the ends.
    const int32_t left = samples.lower[i], right = samples.lower[i + count - 1];
    const int32_t base = std::min(left, right);
    __m512 lower, upper;
    if (std::max(left, right) - base < kWindow - 1) {
      // Lanes past the end of the row are not read. A sample on the last pixel takes its upper
      // pixel from there, with a share of 0.
      const float* from = row + base;
      const __m512 low = _mm512_maskz_loadu_ps(first_lanes(length - base), from);
      const __m512 high =
          _mm512_maskz_loadu_ps(first_lanes(length - base - kLanesOfRow), from + kLanesOfRow);
      const __m512i near = _mm512_sub_epi32(index, _mm512_set1_epi32(base));
      lower = _mm512_permutex2var_ps(low, near, high);
      upper = _mm512_permutex2var_ps(low, _mm512_add_epi32(near, one), high);
    } else {
      const __m512 zero = _mm512_setzero_ps();
      const __m512i next = _mm512_maskz_loadu_epi32(lanes, samples.upper + i);
      lower = _mm512_mask_i32gather_ps(zero, lanes, index, row, sizeof(float));
      upper = _mm512_mask_i32gather_ps(zero, lanes, next, row, sizeof(float));
    }
    const __m512 share = _mm512_maskz_loadu_ps(lanes, samples.share + i);
    const __m512 value = _mm512_fmadd_ps(share, _mm512_sub_ps(upper, lower), lower);
    _mm512_mask_storeu_ps(out + i, lanes, value);
  }
}

FVFAST_TARGET_AVX512 void gather_row_avx512(const float* samples, const Readers<float>& readers,
                                            float* pixels) {
  for (int j = 0; j < readers.padded; j += kLanesOfRow) {
    const int32_t left = readers.start[j], right = readers.start[j + kLanesOfRow - 1];
    const int32_t base = std::min(left, right);
    const __m512i start = _mm512_loadu_si512(readers.start + j);
    const float* weights = readers.weights + j;
    __m512 sum = _mm512_setzero_ps();
    if (std::max(left, right) - base + readers.taps <= kWindow) {
      const __m512 low = _mm512_loadu_ps(samples + base);
      const __m512 high = _mm512_loadu_ps(samples + base + kLanesOfRow);
      __m512i near = _mm512_sub_epi32(start, _mm512_set1_epi32(base));
      for (int tap = 0; tap < readers.taps; ++tap, weights += readers.padded) {
        const __m512 sample = _mm512_permutex2var_ps(low, near, high);
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(weights), sample, sum);
        near = _mm512_add_epi32(near, _mm512_set1_epi32(1));
      }
    } else {
      for (int tap = 0; tap < readers.taps; ++tap, weights += readers.padded) {
        const __m512 sample = _mm512_i32gather_ps(start, samples + tap, sizeof(float));
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(weights), sample, sum);
      }
    }
    const __mmask16 lanes = first_lanes(readers.pixels - j);
    const __m512 before = _mm512_maskz_loadu_ps(lanes, pixels + j);
    _mm512_mask_storeu_ps(pixels + j, lanes, _mm512_add_ps(before, sum));
  }
}

}  // namespace fvfast::cpu
#endif
