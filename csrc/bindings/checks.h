// What the bindings of all ops check. Each error names the function and the argument, and says what
// was expected and what was given.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ops.h"

namespace py = pybind11;

namespace fvfast {

// Becomes a ValueError: "inject_noise(): std: expected a finite number >= 0, got -1.000000".
[[noreturn]] inline void reject(const std::string& function, const std::string& argument,
                                const std::string& expected, const std::string& got) {
  throw std::invalid_argument(function + "(): " + argument + ": expected " + expected + ", got " +
                              got);
}

// Memory of an argument: its address, and the number of elements that lie there. (0, 0) stands for
// no memory.
using Buffer = std::pair<uintptr_t, int64_t>;

inline DType dtype_of(const std::string& function, const std::string& argument,
                      const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  reject(function, argument, "float32, float64, bfloat16 or float16", name);
}

// The types that arithmetic has: float32 or float64.
inline DType real_of(const std::string& function, const std::string& argument,
                     const std::string& name) {
  if (name != "float32" && name != "float64") {
    reject(function, argument, "float32 or float64", name);
  }
  return dtype_of(function, argument, name);
}

// A 32-bit word of a counter.
inline uint32_t word_of(const std::string& function, const std::string& argument, int64_t value) {
  if (value < 0 || value > int64_t{UINT32_MAX}) {
    reject(function, argument, "an integer in [0, 2^32)", std::to_string(value));
  }
  return static_cast<uint32_t>(value);
}

// The identities of `count` images.
inline std::vector<uint32_t> identities_of(const std::string& function,
                                           const std::vector<int64_t>& identities, int64_t count) {
  if (identities.size() != static_cast<size_t>(count)) {
    reject(function, "identities", std::to_string(count) + " integers, one for each image",
           std::to_string(identities.size()));
  }
  std::vector<uint32_t> words;
  words.reserve(identities.size());
  for (const int64_t identity : identities) {
    words.push_back(word_of(function, "identities", identity));
  }
  return words;
}

inline double scale_of(const std::string& function, const std::string& argument, double value) {
  if (!(std::isfinite(value) && value >= 0)) {
    reject(function, argument, "a finite number >= 0", std::to_string(value));
  }
  return value;
}

inline void copy_strides(const std::string& function, const std::string& argument,
                         const std::vector<int64_t>& strides, size_t dims, int64_t* out) {
  if (strides.size() != dims) {
    reject(function, argument, std::to_string(dims) + " strides", std::to_string(strides.size()));
  }
  for (size_t d = 0; d < dims; ++d) {
    if (strides[d] < 0) reject(function, argument, "strides >= 0", std::to_string(strides[d]));
    out[d] = strides[d];
  }
}

inline void require_address(const std::string& function, const std::string& argument,
                            uintptr_t address) {
  if (address == 0) reject(function, argument, "an address", "a null pointer");
}

}  // namespace fvfast
