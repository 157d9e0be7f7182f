// The Python module fvfast._C. The only file that knows of Python: it checks every argument, fills
// the struct of an op, releases the interpreter lock and calls the launcher.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/philox.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace py = pybind11;

namespace fvfast {
namespace {

// Becomes a ValueError: "inject_noise(): std: expected a finite number >= 0, got -1.000000".
[[noreturn]] void reject(const std::string& function, const std::string& argument,
                         const std::string& expected, const std::string& got) {
  throw std::invalid_argument(function + "(): " + argument + ": expected " + expected + ", got " +
                              got);
}

DType dtype_of(const std::string& function, const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  reject(function, "dtype", "float32, float64, bfloat16 or float16", name);
}

// A 32-bit word of a counter.
uint32_t word_of(const std::string& function, const std::string& argument, int64_t value) {
  if (value < 0 || value > int64_t{UINT32_MAX}) {
    reject(function, argument, "an integer in [0, 2^32)", std::to_string(value));
  }
  return static_cast<uint32_t>(value);
}

double scale_of(const std::string& function, const std::string& argument, double value) {
  if (!(std::isfinite(value) && value >= 0)) {
    reject(function, argument, "a finite number >= 0", std::to_string(value));
  }
  return value;
}

void copy_strides(const std::string& function, const std::string& argument,
                  const std::vector<int64_t>& strides, size_t dims, int64_t* out) {
  if (strides.size() != dims) {
    reject(function, argument, std::to_string(dims) + " strides", std::to_string(strides.size()));
  }
  for (size_t d = 0; d < dims; ++d) {
    if (strides[d] < 0) reject(function, argument, "strides >= 0", std::to_string(strides[d]));
    out[d] = strides[d];
  }
}

void inject_noise(uintptr_t images, uintptr_t out, const std::string& dtype,
                  const std::vector<int64_t>& sizes, const std::vector<int64_t>& image_strides,
                  const std::vector<int64_t>& out_strides, const std::vector<int64_t>& streams,
                  double std, double uniform_width, uint64_t seed, int64_t step) {
  const std::string name = "inject_noise";
  if (sizes.empty() || sizes.size() > kMaxDims) {
    reject(name, "sizes", "1 to " + std::to_string(kMaxDims) + " dimensions",
           std::to_string(sizes.size()));
  }
  NoiseParams params{};
  params.images = reinterpret_cast<const void*>(images);
  params.out = reinterpret_cast<void*>(out);
  params.dtype = dtype_of(name, dtype);
  params.dims = static_cast<int>(sizes.size());
  bool empty = sizes[0] == 0;
  int64_t elements = 1;  // of one image
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] < 0) reject(name, "sizes", "sizes >= 0", std::to_string(sizes[d]));
    params.sizes[d] = sizes[d];
    if (d == 0) continue;
    empty = empty || sizes[d] == 0;
    // The element number divided by four is a 32-bit word of the counter.
    constexpr int64_t kMaxElements = int64_t{1} << 34;
    if (sizes[d] > 0 && elements > kMaxElements / sizes[d]) {
      reject(name, "sizes", "at most 2^34 elements per image", "more");
    }
    elements *= sizes[d];
  }
  copy_strides(name, "image_strides", image_strides, sizes.size(), params.image_strides);
  copy_strides(name, "out_strides", out_strides, sizes.size(), params.out_strides);
  if (streams.size() != static_cast<size_t>(sizes[0])) {
    reject(name, "streams", std::to_string(sizes[0]) + " integers, one for each image",
           std::to_string(streams.size()));
  }
  std::vector<uint32_t> stream_words;
  stream_words.reserve(streams.size());
  for (const int64_t stream : streams) stream_words.push_back(word_of(name, "streams", stream));
  params.streams = stream_words.data();
  params.std = scale_of(name, "std", std);
  params.uniform_width = scale_of(name, "uniform_width", uniform_width);
  params.seed = seed;
  params.step = word_of(name, "step", step);
  if (empty) return;
  if (images == 0) reject(name, "images", "an address", "a null pointer");
  if (out == 0) reject(name, "out", "an address", "a null pointer");

  py::gil_scoped_release unlocked;
  cpu::inject_noise(params);
}

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
  module.def("inject_noise", &fvfast::inject_noise, py::kw_only(), py::arg("images"),
             py::arg("out"), py::arg("dtype"), py::arg("sizes"), py::arg("image_strides"),
             py::arg("out_strides"), py::arg("streams"), py::arg("std"), py::arg("uniform_width"),
             py::arg("seed"), py::arg("step"),
             "out = images + std * normal + uniform_width * uniform; strides count elements.");
  module.def("philox_words", &fvfast::philox_words, py::arg("counter"), py::arg("key"),
             "Four random words from a counter of four words and a key of two.");
  module.def("max_threads", &fvfast::cpu::max_threads, "Threads that the next call may use.");
  module.def("simd_level", &fvfast::simd_level, "The instruction set in use.");
  module.def("set_simd_level", &fvfast::set_simd_level, py::arg("name"),
             "Lowers the instruction set; False if the processor does not support it.");
}
