// Where an op runs: every binding takes a target, which has no default.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "bindings/checks.h"
#include "ops.h"

// The launcher of an op on CUDA; without CUDA there is none.
#ifdef FVFAST_WITH_CUDA
#define FVFAST_CUDA_LAUNCHER(name) (&::fvfast::cuda::name)
#else
#define FVFAST_CUDA_LAUNCHER(name) nullptr
#endif

namespace fvfast {

// None: the CPU. Otherwise the index of a CUDA device and the address of a stream.
using TargetArgument = std::optional<std::pair<int, uintptr_t>>;

inline cuda::Target target_of(const std::pair<int, uintptr_t>& target) {
  return {target.first, reinterpret_cast<void*>(target.second)};
}

template <typename Params>
using CudaLauncher = void (*)(const Params&, const cuda::Target&);

template <typename Params>
void run_on(const TargetArgument& target, const Params& params, void (*on_cpu)(const Params&),
            std::common_type_t<CudaLauncher<Params>> on_cuda) {
  py::gil_scoped_release unlocked;
  if (!target.has_value()) return on_cpu(params);
  if (on_cuda == nullptr) {
    throw std::runtime_error(
        "this fvfast was built without CUDA: install it again where nvcc is found");
  }
  on_cuda(params, target_of(*target));
}

}  // namespace fvfast
