// How many multiprocessors a device has, which decides how finely work is cut. No result may depend
// on it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <mutex>

#include "cuda/launch.h"

namespace fvfast::cuda {

// Asked once for each device.
inline int64_t multiprocessors(int device, const char* what) {
  static std::mutex mutex;
  static std::map<int, int> counts;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = counts.find(device);
  if (found != counts.end()) return found->second;
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), what);
  counts[device] = count;
  return count;
}

}  // namespace fvfast::cuda
