// Annotations that differ between compilers.
#pragma once

#if defined(__CUDACC__)
#define FVFAST_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Must be inlined: a function is vectorized for AVX only inside a caller that targets it.
#define FVFAST_HOST_DEVICE inline __attribute__((always_inline))
#endif

// Unrolls the following loop completely.
#if defined(__CUDACC__)
#define FVFAST_UNROLL _Pragma("unroll")
#else
#define FVFAST_UNROLL _Pragma("GCC unroll 16")
#endif
