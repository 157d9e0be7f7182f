// Annotations that differ between compilers.
#pragma once

#if defined(__CUDACC__)
#define FVFAST_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Inlining is not optional: a function is vectorised for AVX only inside a caller that targets it.
#define FVFAST_HOST_DEVICE inline __attribute__((always_inline))
#endif

// Unrolls the loop that follows completely, however often it runs.
#if defined(__CUDACC__)
#define FVFAST_UNROLL _Pragma("unroll")
#else
#define FVFAST_UNROLL _Pragma("GCC unroll 16")
#endif
