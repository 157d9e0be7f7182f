// Runs CUDA C++ kernels on the CPU: the umbrella header, which translate.py puts into every file.
//
// One fiber for each CUDA thread, clusters one after another, all in the thread that launches. The
// types (float4, dim3, __half) and the declarations of the runtime API are those of the toolkit's
// own headers. See README.md for what is modeled.
#pragma once

#if !defined(__x86_64__) || !defined(__GNUC__)
#error "The CUDA emulator switches stacks in x86-64 assembly and needs g++"
#endif

// All system headers come first: their functions keep their visibility, and the macros of the
// emulator never meet them.
#include <cxxabi.h>
#include <dlfcn.h>
#include <math.h>  // which, unlike <cmath>, declares sqrt(float) and isfinite for all, as nvcc does
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#define FVFAST_CUDA_EMULATOR 1

// The emulator's state and functions belong to one shared library: two emulated modules in one
// process, or a module beside the real CUDA runtime, must not see those of each other.
#pragma GCC visibility push(hidden)
#include "cuda_emulator/keywords.h"
#include "cuda_emulator/sanitizers.h"

#include "cuda_emulator/fault.h"
#include "cuda_emulator/order.h"

#include "cuda_emulator/fiber.h"

#include "cuda_emulator/shared_memory.h"

#include "cuda_emulator/block.h"
#include "cuda_emulator/fiber_sets.h"

#include "cuda_emulator/scheduler.h"

#include "cuda_emulator/cluster.h"
#include "cuda_emulator/pipeline.h"
#include "cuda_emulator/warp.h"

#include "cuda_emulator/runtime.h"

#include "cuda_emulator/launch.h"

#include "cuda_emulator/atomics.h"
#include "cuda_emulator/intrinsics.h"
#include "cuda_emulator/math.h"
#pragma GCC visibility pop
