// The CUDA runtime API: device memory is memory of the host, every call is synchronous.
#pragma once

#include "cuda_emulator/order.h"
#include "cuda_emulator/shared_memory.h"

namespace cuda_emulator {

constexpr size_t kDefaultSharedLimit = 48 * 1024;  // of a kernel that has not asked for more
constexpr int kFirstWithClusters = 90;             // compute capability, without its point

constexpr int kMultiprocessors = 132;  // of a device that was not told otherwise: an H100's

// Called after a limit of a kernel was set, with the device and the bytes.
using AttributeHook = void (*)(const void* kernel, int device, unsigned long long bytes);

// What the runtime knows about devices and kernels.
struct Runtime {
  std::mutex mutex;  // for all that follows
  int device_count = 1;
  int current_device = 0;            // of all threads: CUDA has one for each
  std::vector<int> device_calls;     // the arguments of cudaSetDevice
  size_t shared_limit = 227 * 1024;  // of a kernel that asks for more
  // Of the devices that were told how many they have.
  std::map<int, int> multiprocessors;
  int capability = 90;  // without its point; kernels are compiled for it
  // What was set last for a kernel on a device, more or less than before.
  std::map<std::pair<const void*, int>, size_t> kernel_limits;
};

inline Runtime runtime;
inline std::atomic<AttributeHook> attribute_hook{nullptr};
inline thread_local cudaError_t last_error = cudaSuccess;

inline cudaError_t record(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

inline int capability() {
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.capability;
}

// Whether cudaFuncSetAttribute has set a limit, however small: static arrays do not count for it.
inline bool asked_for_shared_memory(const void* kernel) {
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.kernel_limits.count({kernel, runtime.current_device}) > 0;
}

// The dynamic shared memory that a kernel may be launched with.
inline size_t shared_limit_of(const void* kernel) {
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  const auto found = runtime.kernel_limits.find({kernel, runtime.current_device});
  if (found == runtime.kernel_limits.end()) return kDefaultSharedLimit;
  return std::min(found->second, runtime.shared_limit);
}

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorInvalidClusterSize, "cudaErrorInvalidClusterSize", "cluster misconfiguration"},
};

inline const ErrorText* find_error(cudaError_t error) {
  for (const ErrorText& candidate : kErrorTexts) {
    if (candidate.error == error) return &candidate;
  }
  return nullptr;
}

}  // namespace cuda_emulator

// What tests ask of the emulated device.

// The shared memory that a block may have if the kernel asks for it, in bytes. What a kernel was
// allowed before counts as far as the device has it: a program that asked once never asks again.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_shared_limit(unsigned long long bytes) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  ::cuda_emulator::runtime.shared_limit = bytes;
}

// The compute capability of the device, without its point, for which kernels are compiled.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_capability(int capability) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  ::cuda_emulator::runtime.capability = capability;
}

// Called, unless null, after each cudaFuncSetAttribute that set the shared memory of a kernel.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_attribute_hook(::cuda_emulator::AttributeHook hook) {
  ::cuda_emulator::attribute_hook = hook;
}

// How many multiprocessors a device says it has. A program may ask only once for each device.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_multiprocessors(int device, int count) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  ::cuda_emulator::runtime.multiprocessors[device] = count;
}

// How many devices there are, all of them this one: to see that launchers restore the current one.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_device_count(int count) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  ::cuda_emulator::runtime.device_count = count;
  ::cuda_emulator::runtime.current_device = 0;
}

// Copies the arguments of the last calls of cudaSetDevice, accepted or not, and forgets them.
// Returns how many there were.
CUDA_EMULATOR_EXPORT int cuda_emulator_take_device_calls(int* devices, int capacity) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  std::vector<int>& calls = ::cuda_emulator::runtime.device_calls;
  const int count = static_cast<int>(calls.size());
  std::copy_n(calls.begin(), std::min(count, capacity), devices);
  calls.clear();
  return count;
}

CUDA_EMULATOR_EXPORT int cuda_emulator_current_device() {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  return ::cuda_emulator::runtime.current_device;
}

extern "C" {

// Devices.

inline cudaError_t cudaGetDeviceCount(int* count) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  *count = ::cuda_emulator::runtime.device_count;
  return cudaSuccess;
}

inline cudaError_t cudaGetDevice(int* device) {
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  *device = ::cuda_emulator::runtime.current_device;
  return cudaSuccess;
}

inline cudaError_t cudaSetDevice(int device) {
  auto& runtime = ::cuda_emulator::runtime;
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  runtime.device_calls.push_back(device);
  if (device < 0 || device >= runtime.device_count) {
    return ::cuda_emulator::record(cudaErrorInvalidDevice);
  }
  runtime.current_device = device;
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  auto& runtime = ::cuda_emulator::runtime;
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  if (device < 0 || device >= runtime.device_count) {
    return ::cuda_emulator::record(cudaErrorInvalidDevice);
  }
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(runtime.shared_limit);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(::cuda_emulator::kDefaultSharedLimit);
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = runtime.multiprocessors.count(device) > 0 ? runtime.multiprocessors[device]
                                                         : ::cuda_emulator::kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = runtime.capability / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = runtime.capability % 10;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxBlockDimZ:
      *value = 64;
      return cudaSuccess;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      return cudaSuccess;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      return cudaSuccess;
    default:
      return ::cuda_emulator::record(cudaErrorNotSupported);
  }
}

inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

// Kernels.

inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute,
                                        int value) {
  auto& runtime = ::cuda_emulator::runtime;
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;  // a hint
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return ::cuda_emulator::record(cudaErrorNotSupported);
  }
  int device = 0;
  {
    const std::lock_guard<std::mutex> lock(runtime.mutex);
    if (value < 0 || static_cast<size_t>(value) > runtime.shared_limit) {
      return ::cuda_emulator::record(cudaErrorInvalidValue);
    }
    device = runtime.current_device;
    runtime.kernel_limits[{kernel, device}] = static_cast<size_t>(value);
  }
  // Unlocked: the hook may launch.
  if (const auto hook = ::cuda_emulator::attribute_hook.load()) {
    hook(kernel, device, static_cast<unsigned long long>(value));
  }
  return cudaSuccess;
}

inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = attributes->binaryVersion = ::cuda_emulator::capability();
  return cudaSuccess;
}

// Errors.

inline cudaError_t cudaGetLastError() {
  return std::exchange(::cuda_emulator::last_error, cudaSuccess);
}

inline cudaError_t cudaPeekAtLastError() { return ::cuda_emulator::last_error; }

inline const char* cudaGetErrorName(cudaError_t error) {
  const auto* found = ::cuda_emulator::find_error(error);
  return found == nullptr ? "unrecognized error code" : found->name;
}

inline const char* cudaGetErrorString(cudaError_t error) {
  const auto* found = ::cuda_emulator::find_error(error);
  return found == nullptr ? "unrecognized error code" : found->text;
}

// Memory.

inline cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (posix_memalign(address, 256, bytes) != 0) {
    return ::cuda_emulator::record(cudaErrorMemoryAllocation);
  }
  std::memset(*address, ::cuda_emulator::kPoison, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaFree(void* address) {
  std::free(address);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes != 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

inline cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  if (bytes != 0) std::memset(address, value, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(address, value, bytes);
}

// Streams: all of them are in order with everything.

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  static std::array<char, 4096> identities;
  static size_t next = 0;
  const std::lock_guard<std::mutex> lock(::cuda_emulator::runtime.mutex);
  *stream = reinterpret_cast<cudaStream_t>(&identities[++next % identities.size()]);
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, 0);
}

inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }

}  // extern "C"

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
