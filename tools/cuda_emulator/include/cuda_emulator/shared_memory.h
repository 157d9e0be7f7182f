// Shared memory: new for each block, filled with NaN, and as large as was declared.
#pragma once

#include "cuda_emulator/fault.h"
#include "cuda_emulator/sanitizers.h"

namespace cuda_emulator {

constexpr int kPoison = 0xFF;  // of each byte: float and double are then NaN, integers are -1

// Where something lies in the shared memory of a block: the variable to which it belongs, and its
// offset there. Blocks may have their variables at different addresses.
struct SharedPlace {
  const void* owner;  // null: nowhere
  size_t offset;
};

// The shared memory of one block. Sanitizers watch separate allocations from the heap. Without
// them all are in one buffer, each followed by a fence whose bytes are checked at the end.
class SharedMemory {
 public:
  // Before a block: no variable of an earlier one is valid any more. `limit` bounds all of them.
  void begin_block(size_t dynamic_bytes, size_t limit) {
    static uint64_t blocks = 0;
    block_ = ++blocks;
    bytes_ = 0;
    limit_ = limit;
    dynamic_bytes_ = dynamic_bytes;
    dynamic_ = allocate(this, dynamic_bytes, kDynamicAlignment);
  }

  // What other blocks of the cluster still read is freed memory under a sanitizer, else poison.
  void end_block() {
    const bool intact = fences_are_intact();
    if (kSanitized) {
      release();
    } else {
      for (const Piece& piece : pieces_) std::memset(piece.memory, kPoison, piece.bytes);
    }
    ended_ = true;
    if (!intact) throw block_fault("wrote beyond the end of an array in shared memory");
  }

  // When all blocks of the cluster have ended.
  void end_cluster() {
    for (const Piece& piece : pieces_) {
      const char* memory = piece.memory;
      if (piece.bytes == 0) continue;
      if (static_cast<unsigned char>(*memory) != kPoison ||
          std::memcmp(memory, memory + 1, piece.bytes - 1) != 0) {
        throw block_fault("another block has written to its shared memory after it had ended");
      }
    }
    release();
  }

  // Called even after a fault, when nothing is checked any more.
  void release() {
    if (kSanitized) {
      for (const Piece& piece : pieces_) std::free(piece.memory);
    }
    pieces_.clear();
    ended_ = false;
  }

  // For the variable that `owner` stands for.
  char* allocate(const void* owner, size_t bytes, size_t alignment) {
    bytes_ += bytes;
    if (bytes_ > limit_) {
      throw block_fault("needs " + std::to_string(bytes_) + " bytes of shared memory, of which " +
                        std::to_string(dynamic_bytes_) + " are dynamic, but may have only " +
                        std::to_string(limit_));
    }
    char* memory = kSanitized ? from_heap(bytes, alignment) : from_buffer(bytes, alignment);
    pieces_.push_back({owner == this ? &kDynamic : owner, memory, bytes});
    std::memset(memory, kPoison, bytes);
    return memory;
  }

  // Where the variable lies that `owner` stands for; null: nowhere, or the block has ended.
  char* find(const void* owner) const {
    if (ended_) return nullptr;
    for (const Piece& piece : pieces_) {
      if (piece.owner == owner) return piece.memory;
    }
    return nullptr;
  }

  SharedPlace place_of(const void* address) const {
    for (const Piece& piece : pieces_) {
      const char* byte = static_cast<const char*>(address);
      if (byte >= piece.memory && byte < piece.memory + piece.bytes) {
        return {piece.owner, static_cast<size_t>(byte - piece.memory)};
      }
    }
    return {nullptr, 0};
  }

  uint64_t block() const { return block_; }
  char* dynamic() const { return dynamic_; }

 private:
  static constexpr char kDynamic = 0;  // stands for the dynamic part

  struct Piece {
    const void* owner;
    char* memory;
    size_t bytes;
  };

  // The alignment that a GPU guarantees for the dynamic part.
  static constexpr size_t kDynamicAlignment = 16;
  static constexpr size_t kFenceBytes = 64;
  static constexpr int kFenceByte = 0xA5;

  static char* from_heap(size_t bytes, size_t alignment) {
    void* memory = nullptr;
    // An allocation of 0 bytes has an address too, which nothing may be read from.
    if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), bytes) != 0) {
      throw std::bad_alloc();
    }
    return static_cast<char*>(memory);
  }

  char* from_buffer(size_t bytes, size_t alignment) {
    // A bound on what can follow, so that the buffer never moves while a block runs.
    constexpr size_t kMaxPieces = 256, kMaxAlignment = 256;
    if (pieces_.empty()) {
      used_ = 0;
      const size_t needed = limit_ + kMaxPieces * (kFenceBytes + kMaxAlignment);
      if (buffer_.size() < needed) buffer_.resize(needed);
    }
    if (pieces_.size() == kMaxPieces || alignment > kMaxAlignment) {
      throw block_fault("more than 256 shared variables, or one aligned to more than 256 bytes");
    }
    const uintptr_t start = reinterpret_cast<uintptr_t>(buffer_.data()) + used_;
    const uintptr_t memory = (start + alignment - 1) / alignment * alignment;
    used_ += memory - start + bytes + kFenceBytes;
    std::memset(reinterpret_cast<char*>(memory) + bytes, kFenceByte, kFenceBytes);
    return reinterpret_cast<char*>(memory);
  }

  bool fences_are_intact() const {
    if (kSanitized) return true;
    char fence[kFenceBytes];
    std::memset(fence, kFenceByte, kFenceBytes);
    for (const Piece& piece : pieces_) {
      if (std::memcmp(piece.memory + piece.bytes, fence, kFenceBytes) != 0) return false;
    }
    return true;
  }

  uint64_t block_ = 0;  // its number since the module was loaded
  bool ended_ = false;
  size_t bytes_ = 0, limit_ = 0, dynamic_bytes_ = 0;
  char* dynamic_ = nullptr;
  std::vector<Piece> pieces_;
  std::vector<char> buffer_;
  size_t used_ = 0;  // of the buffer
};

inline SharedMemory* shared_memory = nullptr;  // of the block that runs

// Where a declaration finds its memory. One for each declaration, and for each instance of a
// template in which it stands.
struct SharedSlot {
  uint64_t block;
  void* memory;
};

__attribute__((noinline)) inline void fill_slot(SharedSlot& slot, size_t bytes, size_t alignment) {
  slot.memory = shared_memory->find(&slot);  // where blocks of a cluster take turns
  if (slot.memory == nullptr) slot.memory = shared_memory->allocate(&slot, bytes, alignment);
  slot.block = shared_memory->block();
}

// `__shared__ T name;` becomes `auto& name = shared_variable<T>(alignment, [] {});`. The type of
// the lambda expression is a different one for each declaration and instance.
template <typename T, typename Declaration>
T& shared_variable(size_t alignment, Declaration) {
  static_assert(std::is_trivially_default_constructible_v<T>,
                "a variable in shared memory cannot have a constructor");
  static SharedSlot slot;
  const Unobserved unobserved;
  if (slot.block != shared_memory->block()) {
    fill_slot(slot, sizeof(T), std::max(alignment, alignof(T)));
  }
  return *static_cast<T*>(slot.memory);
}

// `extern __shared__ T name[];` becomes `T* name = dynamic_shared<T>(alignment);`.
template <typename T>
T* dynamic_shared(size_t alignment) {
  const Unobserved unobserved;
  char* memory = shared_memory->dynamic();
  if (reinterpret_cast<uintptr_t>(memory) % std::max(alignment, alignof(T)) != 0) {
    fail("dynamic shared memory is aligned to 16 bytes only");
  }
  return reinterpret_cast<T*>(memory);
}

}  // namespace cuda_emulator
