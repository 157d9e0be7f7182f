// Checks of tensors as memory: what they span, whether they overlap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/checks.h"

namespace fvfast {

constexpr int64_t kMaxElements = int64_t{1} << 48;  // that anything may span: sums cannot overflow

inline int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 4;
    case DType::kFloat64:
      return 8;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
  }
  return 0;
}

// An argument as the bindings know it. `span` counts the elements from the first to the last.
struct View {
  std::string argument;
  uintptr_t address;
  DType dtype;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t span;

  uintptr_t end() const { return address + static_cast<uintptr_t>(span * item_size(dtype)); }
};

// Sizes >= 0, whose product is a number of elements. Returns whether there are none.
inline bool check_sizes(const std::string& function, const std::string& argument,
                        const std::vector<int64_t>& sizes) {
  int64_t elements = 1;
  bool empty = false;
  for (const int64_t size : sizes) {
    if (size < 0) reject(function, argument, "sizes >= 0", std::to_string(size));
    empty = empty || size == 0;
    if (size > 0 && elements > kMaxElements / size) {
      reject(function, argument, "at most 2^48 elements", "more");
    }
    elements *= std::max<int64_t>(size, 1);
  }
  return empty;
}

// A view of sizes that were checked and none of which is 0.
inline View view_of(const std::string& function, const std::string& argument, uintptr_t address,
                    DType dtype, const std::vector<int64_t>& sizes,
                    const std::vector<int64_t>& strides) {
  require_address(function, argument, address);
  int64_t span = 1;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] > 1 && strides[d] > (kMaxElements - span) / (sizes[d] - 1)) {
      reject(function, argument, "strides that span at most 2^48 elements", "more");
    }
    span += (sizes[d] - 1) * strides[d];
  }
  return {argument, address, dtype, sizes, strides, span};
}

// For what is written to: each element has memory of its own, and none of another argument.
inline void require_own_memory(const std::string& function, const View& written,
                               const std::vector<View>& others) {
  std::vector<size_t> order;
  for (size_t d = 0; d < written.sizes.size(); ++d) {
    if (written.sizes[d] > 1) order.push_back(d);
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return written.strides[a] < written.strides[b]; });
  int64_t span = 1;  // of the dimensions before
  for (const size_t d : order) {
    if (written.strides[d] < span) {
      reject(function, written.argument, "elements that share no memory",
             "a stride of " + std::to_string(written.strides[d]));
    }
    span += (written.sizes[d] - 1) * written.strides[d];
  }
  for (const View& other : others) {
    if (written.address < other.end() && other.address < written.end()) {
      reject(function, written.argument, "memory apart from that of " + other.argument,
             "memory that overlaps");
    }
  }
}

}  // namespace fvfast
