// Products that are rounded even where a compiler could fuse them with a sum.
//
// An fma rounds once where a product and a sum round twice, and which of them compilers choose
// depends on the processor, the loop and the function. Where a result decides something, such as
// what lies inside an image, all of them have to agree.
#pragma once

#include "common/macros.h"

namespace fvfast {

#if !defined(__CUDA_ARCH__)
// A register that holds a double. Empty assembly code that takes one hides from the compiler how
// its value was computed.
#if defined(__x86_64__)
#define FVFAST_ANY_DOUBLE "+x"
#elif defined(__aarch64__)
#define FVFAST_ANY_DOUBLE "+w"
#else
#define FVFAST_ANY_DOUBLE "+m"
#endif
#endif

// The product a b, rounded to nearest, even where the result is added to something.
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
// For products that one loop has made: no later loop is fused with it, and both may be vector code.
template <int count>
inline __attribute__((always_inline)) void keep_rounded(double (&products)[count]) {
  __asm__("" : "+m"(products));
}
#endif

}  // namespace fvfast
