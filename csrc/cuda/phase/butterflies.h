// Discrete Fourier transforms of 2 to 8 numbers in registers.
#pragma once

#include "cuda/phase/complex.h"

namespace fvfast::cuda {

// values[m] = sum over k of values[k] exp(-+ 2 pi i k m / R), + where kInverse.
template <int R, bool kInverse, typename Real>
struct Butterfly {
  // An odd R: the terms k and R - k share a cosine and a sine.
  static __device__ __forceinline__ void run(Complex<Real> (&values)[R]) {
    static_assert(R == 3 || R == 5 || R == 7, "an odd prime");
    constexpr int kPairs = R / 2;
    // Of 2 pi k / R, k = 1 to kPairs.
    const double cosines[3] = {
        R == 3 ? -0.5 : (R == 5 ? 0.30901699437494742410 : 0.62348980185873353053),
        R == 5 ? -0.80901699437494742410 : -0.22252093395631440429, -0.90096886790241912624};
    const double sines[3] = {R == 3 ? 0.86602540378443864676
                                    : (R == 5 ? 0.95105651629515357212 : 0.78183148246802980871),
                             R == 5 ? 0.58778525229247312917 : 0.97492791218182360702,
                             0.43388373911755812048};
    const Complex<Real> first = values[0];
    Complex<Real> sums[kPairs], differences[kPairs];
    Complex<Real> total = first;
#pragma unroll
    for (int k = 1; k <= kPairs; ++k) {
      sums[k - 1] = values[k] + values[R - k];
      differences[k - 1] = values[k] - values[R - k];
      total = total + sums[k - 1];
    }
    values[0] = total;
#pragma unroll
    for (int m = 1; m <= kPairs; ++m) {
      Complex<Real> even = first, odd = {0, 0};
#pragma unroll
      for (int k = 1; k <= kPairs; ++k) {
        const int turn = k * m % R;
        const int index = turn <= kPairs ? turn : R - turn;
        const Real cosine = static_cast<Real>(cosines[index - 1]);
        const Real sine = static_cast<Real>(turn <= kPairs ? sines[index - 1] : -sines[index - 1]);
        even = {even.re + cosine * sums[k - 1].re, even.im + cosine * sums[k - 1].im};
        odd = {odd.re + sine * differences[k - 1].re, odd.im + sine * differences[k - 1].im};
      }
      const Complex<Real> turned = quarter_turn<kInverse>(odd);
      values[m] = even + turned;
      values[R - m] = even - turned;
    }
  }
};

template <bool kInverse, typename Real>
struct Butterfly<2, kInverse, Real> {
  static __device__ __forceinline__ void run(Complex<Real> (&values)[2]) {
    const Complex<Real> first = values[0];
    values[0] = first + values[1];
    values[1] = first - values[1];
  }
};

template <bool kInverse, typename Real>
struct Butterfly<4, kInverse, Real> {
  static __device__ __forceinline__ void run(Complex<Real> (&values)[4]) {
    const Complex<Real> a = values[0] + values[2], b = values[0] - values[2];
    const Complex<Real> c = values[1] + values[3];
    const Complex<Real> d = quarter_turn<kInverse>(values[1] - values[3]);
    values[0] = a + c;
    values[1] = b + d;
    values[2] = a - c;
    values[3] = b - d;
  }
};

template <bool kInverse, typename Real>
struct Butterfly<8, kInverse, Real> {
  static __device__ __forceinline__ void run(Complex<Real> (&values)[8]) {
    constexpr Real kHalfRoot = static_cast<Real>(0.70710678118654752440);
    Complex<Real> even[4] = {values[0], values[2], values[4], values[6]};
    Complex<Real> odd[4] = {values[1], values[3], values[5], values[7]};
    Butterfly<4, kInverse, Real>::run(even);
    Butterfly<4, kInverse, Real>::run(odd);
    // Eighths of a turn: (1 -+ i) / sqrt(2), and the same after a quarter turn.
    const Complex<Real> turned1 = quarter_turn<kInverse>(odd[1]);
    const Complex<Real> turned3 = quarter_turn<kInverse>(odd[3]);
    const Complex<Real> eighth1 = odd[1] + turned1, eighth3 = turned3 - odd[3];
    odd[1] = {kHalfRoot * eighth1.re, kHalfRoot * eighth1.im};
    odd[2] = quarter_turn<kInverse>(odd[2]);
    odd[3] = {kHalfRoot * eighth3.re, kHalfRoot * eighth3.im};
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      values[m] = even[m] + odd[m];
      values[m + 4] = even[m] - odd[m];
    }
  }
};

}  // namespace fvfast::cuda
