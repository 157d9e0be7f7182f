// Checks of the memory of arguments: how far it reaches, whether it is there, what overlaps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings/checks.h"
#include "common/dispatch.h"

namespace fvfast {

constexpr int64_t kMaxElements = int64_t{1} << 48;  // that a tensor may span: sums cannot overflow

// Bytes of an element.
inline int64_t item_size(DType dtype) {
  return with_element(dtype, [](auto element) {
    return static_cast<int64_t>(sizeof(typename decltype(element)::Storage));
  });
}

// Requires sizes >= 0 of at most kMaxElements elements. Returns whether there are no elements.
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

// The memory that one call is given. Everything that a kernel may touch is checked here: the
// elements that sizes and strides describe must exist, and memory that is written to must not
// overlap any other. Sizes were checked before, and none of them is 0.
class Memory {
 public:
  explicit Memory(std::string function) : function_(std::move(function)) {}

  const void* reads(const char* argument, const Buffer& buffer, DType dtype,
                    const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
    reads_.push_back(range_of(argument, buffer, dtype, span_of(argument, sizes, strides)));
    return reinterpret_cast<const void*>(buffer.first);
  }

  // `count` contiguous elements.
  const void* reads(const char* argument, const Buffer& buffer, DType dtype, int64_t count) {
    reads_.push_back(range_of(argument, buffer, dtype, count));
    return reinterpret_cast<const void*>(buffer.first);
  }

  // Integers of 64 bits.
  const int64_t* reads_integers(const char* argument, const Buffer& buffer, int64_t count,
                                int64_t stride = 1) {
    static_assert(sizeof(int64_t) == sizeof(double), "only the size of a type counts here");
    return static_cast<const int64_t*>(reads(argument, buffer, DType::kFloat64, {count}, {stride}));
  }

  // Elements of one byte, such as those of a tensor of truth values.
  const bool* reads_flags(const char* argument, const Buffer& buffer, int64_t count) {
    require_memory(argument, buffer, count, "elements");
    reads_.push_back({argument, buffer.first, buffer.first + static_cast<uintptr_t>(count)});
    return reinterpret_cast<const bool*>(buffer.first);
  }

  bool* writes_flags(const char* argument, const Buffer& buffer, int64_t count) {
    return static_cast<bool*>(writes_bytes(argument, buffer, count, 1));
  }

  // Integers of 32 bits.
  int32_t* writes_words(const char* argument, const Buffer& buffer, int64_t count) {
    static_assert(sizeof(int32_t) == sizeof(float), "only the size of a type counts here");
    return static_cast<int32_t*>(writes(argument, buffer, DType::kFloat32, count));
  }

  // Integers of 64 bits.
  int64_t* writes_integers(const char* argument, const Buffer& buffer, int64_t count) {
    return static_cast<int64_t*>(writes(argument, buffer, DType::kFloat64, count));
  }

  // No two elements may share memory.
  void* writes(const char* argument, const Buffer& buffer, DType dtype,
               const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
    writes_.push_back(range_of(argument, buffer, dtype, span_of(argument, sizes, strides)));
    require_distinct(argument, sizes, strides);
    return reinterpret_cast<void*>(buffer.first);
  }

  void* writes(const char* argument, const Buffer& buffer, DType dtype, int64_t count) {
    writes_.push_back(range_of(argument, buffer, dtype, count));
    return reinterpret_cast<void*>(buffer.first);
  }

  // Memory of a number of bytes, aligned.
  void* writes_bytes(const char* argument, const Buffer& buffer, int64_t bytes, int64_t alignment) {
    require_memory(argument, buffer, bytes, "bytes");
    if (buffer.first % static_cast<uintptr_t>(alignment) != 0) {
      reject(function_, argument, "an address aligned to " + std::to_string(alignment),
             "one that is not");
    }
    writes_.push_back({argument, buffer.first, buffer.first + static_cast<uintptr_t>(bytes)});
    return reinterpret_cast<void*>(buffer.first);
  }

  // The last check: what is written to is apart from all that is read, and from each other.
  void require_apart() const {
    for (size_t i = 0; i < writes_.size(); ++i) {
      for (const Range& other : reads_) require_apart(writes_[i], other);
      for (size_t j = 0; j < i; ++j) require_apart(writes_[i], writes_[j]);
    }
  }

 private:
  struct Range {
    const char* argument;
    uintptr_t begin, end;
  };

  void require_memory(const char* argument, const Buffer& buffer, int64_t needed,
                      const char* unit) const {
    require_address(function_, argument, buffer.first);
    if (buffer.second < needed) {
      reject(function_, argument, "memory of " + std::to_string(needed) + " " + unit + " or more",
             std::to_string(buffer.second));
    }
  }

  Range range_of(const char* argument, const Buffer& buffer, DType dtype, int64_t span) const {
    require_memory(argument, buffer, span, "elements");
    const auto item = static_cast<uintptr_t>(item_size(dtype));
    if (buffer.first % item != 0) {
      reject(function_, argument, "an address aligned to its type", "one that is not");
    }
    return {argument, buffer.first, buffer.first + static_cast<uintptr_t>(span) * item};
  }

  // Elements from the first to the last.
  int64_t span_of(const char* argument, const std::vector<int64_t>& sizes,
                  const std::vector<int64_t>& strides) const {
    int64_t span = 1;
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (sizes[d] > 1 && strides[d] > (kMaxElements - span) / (sizes[d] - 1)) {
        reject(function_, argument, "strides that span at most 2^48 elements", "more");
      }
      // The stride of a dimension of size 1 does not matter.
      if (sizes[d] > 1) span += (sizes[d] - 1) * strides[d];
    }
    return span;
  }

  void require_distinct(const char* argument, const std::vector<int64_t>& sizes,
                        const std::vector<int64_t>& strides) const {
    std::vector<size_t> order;
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (sizes[d] > 1) order.push_back(d);
    }
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return strides[a] < strides[b]; });
    int64_t span = 1;  // of the dimensions before
    for (const size_t d : order) {
      if (strides[d] < span) {
        reject(function_, argument, "elements that share no memory",
               "a stride of " + std::to_string(strides[d]));
      }
      span += (sizes[d] - 1) * strides[d];
    }
  }

  void require_apart(const Range& written, const Range& other) const {
    if (written.begin < other.end && other.begin < written.end) {
      reject(function_, written.argument,
             std::string("memory apart from that of ") + other.argument, "memory that overlaps");
    }
  }

  std::string function_;
  std::vector<Range> reads_, writes_;
};

}  // namespace fvfast
