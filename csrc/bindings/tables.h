// What kernels read from the memory of a device when they run: the counter of the step, numbers of
// each step, the identities of the images. On the CPU all of that is in the arguments themselves.
#pragma once

#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {

// None, or (memory, rows, stride from row to row in elements).
using TableArgument = std::optional<std::tuple<Buffer, int64_t, int64_t>>;

// The address of a counter, which only a kernel can read.
inline const int64_t* counter_of(const std::string& function, const Buffer& counter,
                                 const TargetArgument& target, Memory& memory) {
  if (counter.first == 0) return nullptr;
  if (!target.has_value()) {
    reject(function, "counter", "no counter on the CPU, where the step is a number", "an address");
  }
  return memory.reads_integers("counter", counter, 1);
}

constexpr int64_t kMaxRows = int64_t{1} << 32;  // a step is a word of 32 bits

inline void check_table(const std::string& function, const char* argument, int64_t fewest,
                        int64_t rows, int64_t stride, const TargetArgument& target) {
  if (!target.has_value()) {
    reject(function, argument, "none on the CPU, where numbers are arguments", "a table");
  }
  if (rows < fewest || rows > kMaxRows) {
    reject(function, argument, std::to_string(fewest) + " to 2^32 rows", std::to_string(rows));
  }
  if (stride < 0) reject(function, argument, "a stride >= 0", std::to_string(stride));
}

// Numbers of each step, `columns` of them in a row.
inline StepTable table_of(const std::string& function, const char* argument,
                          const TableArgument& table, int64_t columns, const int64_t* counter,
                          const TargetArgument& target, Memory& memory) {
  if (!table.has_value()) return {};
  const auto& [buffer, rows, stride] = *table;
  check_table(function, argument, 1, rows, stride, target);
  if (counter == nullptr)
    reject(function, argument, "a counter that says which row counts", "none");
  const void* numbers =
      memory.reads(argument, buffer, DType::kFloat64, {rows, columns}, {stride, 1});
  return {static_cast<const double*>(numbers), rows, stride};
}

// How many images there are identities of.
inline int64_t image_count(const std::vector<int64_t>& identities, const TableArgument& table) {
  return table.has_value() ? std::get<1>(*table) : static_cast<int64_t>(identities.size());
}

// Puts the identities of `count` images into the struct of an op. Those of the host are returned,
// and must outlive the struct.
template <typename Params>
std::vector<uint32_t> take_identities(const std::string& function,
                                      const std::vector<int64_t>& identities,
                                      const TableArgument& table, int64_t count,
                                      const TargetArgument& target, Memory& memory,
                                      Params& params) {
  if (table.has_value()) {
    const auto& [buffer, rows, stride] = *table;
    check_table(function, "identity_table", 0, rows, stride, target);
    if (rows != count) {
      reject(function, "identity_table", std::to_string(count) + " rows, one for each image",
             std::to_string(rows));
    }
    if (!identities.empty()) {
      reject(function, "identities", "none beside a table of them",
             std::to_string(identities.size()));
    }
    if (count > 0) {
      params.device_identities = {memory.reads_integers("identity_table", buffer, count, stride),
                                  stride};
    }
    return {};
  }
  std::vector<uint32_t> words = identities_of(function, identities, count);
  params.identities = words.data();  // which moving the vector out of here does not change
  return words;
}

// Puts the tables of NoiseParams or CropParams, whose counter is there, into the struct. Returns
// whether there is one.
template <typename Params>
bool take_noise_tables(const std::string& function, const TableArgument& std_table,
                       const TableArgument& uniform_width_table, const TargetArgument& target,
                       Memory& memory, Params& params) {
  params.std_table = table_of(function, "std_table", std_table, 1, params.counter, target, memory);
  params.uniform_width_table = table_of(function, "uniform_width_table", uniform_width_table, 1,
                                        params.counter, target, memory);
  return std_table.has_value() || uniform_width_table.has_value();
}

}  // namespace fvfast
