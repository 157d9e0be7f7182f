// The Python module fvfast._C, except for the ops. The bindings of the ops are in bindings/, their
// structs and launchers in ops.h, their kernels in cpu/ and cuda/, and what both share in common/.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <string>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "common/philox.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

// The architectures that the CUDA kernels were compiled for, separated by semicolons.
#ifndef FVFAST_CUDA_ARCHS
#define FVFAST_CUDA_ARCHS ""
#endif

namespace fvfast {
namespace {

// One block of the generator, so that tests can compare it with published vectors.
std::array<uint32_t, 4> philox_words(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  philox4x32(counter.data(), key[0], key[1]);
  return counter;
}

struct NamedLevel {
  const char* name;
  cpu::SimdLevel level;
};
constexpr NamedLevel kSimdLevels[] = {
    {"baseline", cpu::SimdLevel::kBaseline},
    {"avx2", cpu::SimdLevel::kAvx2},
    {"avx512", cpu::SimdLevel::kAvx512},
};

std::string simd_level() { return kSimdLevels[static_cast<int>(cpu::simd_level())].name; }

bool set_simd_level(const std::string& name) {
  for (const NamedLevel& candidate : kSimdLevels) {
    if (name == candidate.name) return cpu::set_simd_level(candidate.level);
  }
  reject("set_simd_level", "name", "baseline, avx2 or avx512", name);
}

}  // namespace
}  // namespace fvfast

PYBIND11_MODULE(_C, module) {
  module.doc() =
      "Kernels of fvfast. They take addresses: call the functions of fvfast.ops instead.";
  fvfast::bind_boxes(module);
  fvfast::bind_convolution_epilogue(module);
  fvfast::bind_crop(module);
  fvfast::bind_noise(module);
  fvfast::bind_phase(module);
  fvfast::bind_phase_cuda(module);
  fvfast::bind_pyramid(module);
  fvfast::bind_step_end(module);
  fvfast::bind_winograd(module);
  module.attr("cuda_architectures") = FVFAST_CUDA_ARCHS;
  module.def("philox_words", &fvfast::philox_words, py::arg("counter"), py::arg("key"),
             "Four random words from a counter of four words and a key of two.");
  module.def("max_threads", &fvfast::cpu::max_threads, "Threads that the next call may use.");
  module.def("simd_level", &fvfast::simd_level, "The instruction set in use.");
  module.def("set_simd_level", &fvfast::set_simd_level, py::arg("name"),
             "Lowers the instruction set; False if the processor does not support it.");
}
