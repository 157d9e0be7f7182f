// What all launchers share: the device, the stream, errors, the identities of the images.
//
// Kernels live in the namespace fvfast::cuda and not in an unnamed one, so that their symbols are
// the same whichever compiler made them: that is how compiled kernels are found and tested.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "ops.h"

namespace fvfast::cuda {

constexpr int kWarp = 32;

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // clears it, or the next launch would report it again
  throw std::runtime_error(std::string(what) + "(): CUDA: " + cudaGetErrorString(error));
}

// After a launch: `what` names the op.
inline void check_launch(const char* what) { check(cudaGetLastError(), what); }

// Makes the device of a target current, and restores the previous one at the end.
class DeviceGuard {
 public:
  DeviceGuard(const Target& target, const char* what) {
    check(cudaGetDevice(&previous_), what);
    if (target.device != previous_) check(cudaSetDevice(target.device), what);
    changed_ = target.device != previous_;
  }
  ~DeviceGuard() {
    // A destructor must not throw; the next call on the device reports what is wrong with it.
    if (changed_) static_cast<void>(cudaSetDevice(previous_));
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

inline cudaStream_t stream_of(const Target& target) {
  return static_cast<cudaStream_t>(target.stream);
}

// Identities travel in the arguments of a kernel rather than in a copy to the device, which a
// captured graph could not replay. More images than this take several launches.
constexpr int kIdentitiesPerLaunch = 256;

struct Identities {
  uint32_t words[kIdentitiesPerLaunch];
};

inline Identities identities_from(const uint32_t* identities, int64_t first, int64_t count) {
  Identities result{};
  for (int64_t i = 0; i < std::min<int64_t>(count, kIdentitiesPerLaunch); ++i) {
    result.words[i] = identities[first + i];
  }
  return result;
}

// The optimization step, of which a part may lie on the device.
__device__ inline uint32_t current_step(uint32_t step, const int64_t* counter) {
  return counter == nullptr ? step : step + static_cast<uint32_t>(*counter);
}

}  // namespace fvfast::cuda
