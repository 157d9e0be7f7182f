// The parts of the test programs: cases, each of which launches kernels and counts wrong
// values.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

using Case = int (*)();

inline std::map<std::string, Case>& all_cases() {
  static std::map<std::string, Case> cases;
  return cases;
}

struct Registration {
  Registration(const char* name, Case run) { all_cases()[name] = run; }
};

#define CASE(name)                                               \
  static int name();                                             \
  static const Registration registration_of_##name(#name, name); \
  static int name()

// Memory of the device, filled with NaN; the host reads and writes it as its own.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  size_t size() const { return count_; }

 private:
  size_t count_;
  T* data_ = nullptr;
};

// Small integers without a pattern, which float sums exactly.
inline int scrambled(unsigned i) { return static_cast<int>((i * 2654435761u) >> 27) - 16; }

// The sum over a block of 64 threads, by a tree in shared memory. Several files include this.
__device__ inline float block_sum(float value) {
  __shared__ float partial[64];
  const unsigned thread = threadIdx.x;
  __syncthreads();  // partial may be in use by the previous call
  partial[thread] = value;
  for (unsigned half = 32; half >= 1; half /= 2) {
    __syncthreads();
    if (thread < half) partial[thread] += partial[thread + half];
  }
  __syncthreads();
  return partial[0];
}
