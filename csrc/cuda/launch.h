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

// Identities of the host travel in the arguments of a kernel rather than in a copy to the device,
// which a captured graph could not replay. More images than this take several launches.
constexpr int kIdentitiesPerLaunch = 256;

struct Identities {
  DeviceIdentities on_device;
  uint32_t words[kIdentitiesPerLaunch];

  __device__ uint32_t of(unsigned image) const {
    if (on_device.numbers == nullptr) return words[image];
    return static_cast<uint32_t>(on_device.numbers[image * on_device.stride]);
  }
};

// Those of the images of a launch, from `first` on.
template <typename Params>
Identities identities_from(const Params& params, int64_t first, int64_t count) {
  Identities result{};
  if (params.device_identities.numbers != nullptr) {
    result.on_device = params.device_identities;
    result.on_device.numbers += first * result.on_device.stride;
    return result;
  }
  for (int64_t i = 0; i < std::min<int64_t>(count, kIdentitiesPerLaunch); ++i) {
    result.words[i] = params.identities[first + i];
  }
  return result;
}

// The optimization step, of which a part may lie on the device.
__device__ inline uint32_t current_step(uint32_t step, const int64_t* counter) {
  return counter == nullptr ? step : step + static_cast<uint32_t>(*counter);
}

// The row of a table that counts in this step. All threads read the same one, which takes a warp
// two transactions.
__device__ inline const double* current_row(const StepTable& table, const int64_t* counter) {
  const int64_t step = *counter, last = table.rows - 1;
  return table.numbers + table.stride * (step < 0 ? 0 : step < last ? step : last);
}

// A number, or that of this step where there is a table.
__device__ inline double current_number(double number, const StepTable& table,
                                        const int64_t* counter) {
  return table.numbers == nullptr ? number : *current_row(table, counter);
}

}  // namespace fvfast::cuda
