// Products that are rounded, where a compiler would like to fuse them with a sum.
//
// An fma rounds once where a product and a sum round twice, and compilers choose by processor, by
// loop, and differently in one function than in another. Where a result decides something, such as
// what lies inside an image, all of them have to agree.
#pragma once

#include "common/macros.h"

namespace fvfast {

#if !defined(__CUDA_ARCH__)
// Registers that hold a double: the compiler must have it there, and knows nothing more about it.
#if defined(__x86_64__)
#define FVFAST_ANY_DOUBLE "+x"
#elif defined(__aarch64__)
#define FVFAST_ANY_DOUBLE "+w"
#else
#define FVFAST_ANY_DOUBLE "+m"
#endif
#endif

// a b, rounded to nearest, whatever is done with it.
FVFAST_HOST_DEVICE double rounded_product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  double product = a * b;
  __asm__("" : FVFAST_ANY_DOUBLE(product));
  return product;
#endif
}

#undef FVFAST_ANY_DOUBLE

#if !defined(__CUDA_ARCH__)
// For products that one loop has made: no later loop is fused with it, and each may be vector code.
template <int count>
inline __attribute__((always_inline)) void keep_rounded(double (&products)[count]) {
  __asm__("" : "+m"(products));
}
#endif

}  // namespace fvfast
