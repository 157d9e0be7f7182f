// The words that CUDA adds to C++ and that the toolkit's headers leave to nvcc.
#pragma once

// Functions and variables of the device are ordinary ones: __global__, __device__, __constant__,
// __host__ and __grid_constant__ are empty already.
#undef __launch_bounds__
#define __launch_bounds__(...)  // translate.py adds the check of the bound to the kernel's body

// translate.py replaces the declarations it understands. What is left would be one variable for
// all blocks, so it does not compile.
#undef __shared__
#define __shared__ this_declaration_of_shared_memory_is_not_one_that_translate_py_understands

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;
