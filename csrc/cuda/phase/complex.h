// Complex numbers, laid out as torch has them.
#pragma once

namespace fvfast::cuda {

template <typename Real>
struct alignas(2 * sizeof(Real)) Complex {
  Real re, im;
};

template <typename Real>
__device__ __forceinline__ Complex<Real> operator+(Complex<Real> a, Complex<Real> b) {
  return {a.re + b.re, a.im + b.im};
}

template <typename Real>
__device__ __forceinline__ Complex<Real> operator-(Complex<Real> a, Complex<Real> b) {
  return {a.re - b.re, a.im - b.im};
}

template <typename Real>
__device__ __forceinline__ Complex<Real> operator*(Complex<Real> a, Complex<Real> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

template <typename Real>
__device__ __forceinline__ Complex<Real> conjugate(Complex<Real> a) {
  return {a.re, -a.im};
}

// a times -i or, in an inverse transform, times i: the quarter turn of a butterfly.
template <bool kInverse, typename Real>
__device__ __forceinline__ Complex<Real> quarter_turn(Complex<Real> a) {
  if (kInverse) return {-a.im, a.re};
  return {a.im, -a.re};
}

}  // namespace fvfast::cuda
