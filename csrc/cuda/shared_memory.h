// Dynamic shared memory of more than 48 KiB, which a kernel must be given leave to use.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/launch.h"

namespace fvfast::cuda {

// A device's limit includes the static arrays of a kernel: this much is left for them.
constexpr size_t kStaticSharedMemory = 4096;
constexpr size_t kSharedMemoryOfAll = size_t{48} * 1024;

// The dynamic shared memory that a block can have on a device, in bytes.
inline size_t shared_limit(int device, const char* what) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), what);
  return static_cast<size_t>(bytes) - kStaticSharedMemory;
}

// What each kernel is allowed on each device: always as much as the device has. The limit belongs
// to the kernel, not to a launch. If each launch set only what it needs, one thread could lower the
// limit between another thread's setting and its launch.
class AllowedSharedMemory {
 public:
  bool covers(const void* kernel, int device, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = allowed_.find({kernel, device});
    return found != allowed_.end() && bytes <= found->second;
  }

  void note(const void* kernel, int device, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    allowed_[{kernel, device}] = bytes;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<const void*, int>, size_t> allowed_;
};

inline AllowedSharedMemory allowed_shared_memory;

// Before a launch on `device`, which is the current one.
template <typename Kernel>
void allow_shared_memory(Kernel* kernel, size_t bytes, int device, const char* what) {
  const void* const address = reinterpret_cast<const void*>(kernel);
  if (bytes + kStaticSharedMemory <= kSharedMemoryOfAll) return;
  if (allowed_shared_memory.covers(address, device, bytes)) return;
  // Two threads may get here at once: both set the same limit.
  const size_t limit = shared_limit(device, what);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(limit)),
        what);
  allowed_shared_memory.note(address, device, limit);
}

}  // namespace fvfast::cuda
