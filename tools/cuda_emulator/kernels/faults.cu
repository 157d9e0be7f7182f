// Kernels with one fault each, which the tests must find.
#include "cases.h"

constexpr unsigned kFull = 0xffffffffu;

// Runs a kernel of one argument on `count` numbers 0, 1, 2, ... and counts those of the results
// that are not what `expected` says.
template <typename Expected>
int count_wrong(void (*kernel)(float*), dim3 grid, dim3 block, size_t bytes, int count,
                Expected expected) {
  DeviceArray<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = i;
  kernel<<<grid, block, bytes>>>(values.get());
  int wrong = cudaGetLastError() != cudaSuccess;
  for (int i = 0; i < count; ++i) wrong += !(values[i] == expected(i));
  return wrong;
}

constexpr auto kAnything = [](int) { return 0.0f; };

__global__ void missing_barrier_kernel(float* values) {
  __shared__ float shared[64];
  shared[threadIdx.x] = values[threadIdx.x];
  values[threadIdx.x] = shared[63 - threadIdx.x];
}

CASE(missing_barrier) {
  return count_wrong(missing_barrier_kernel, 1, 64, 0, 64, [](int i) { return 63.0f - i; });
}

// In ascending order only the last thread comes too late, in descending order only the first one.
__global__ void write_after_read_kernel(float* values) {
  __shared__ float shared[64];
  const unsigned t = threadIdx.x;
  shared[t] = values[t];
  __syncthreads();
  const float next = shared[(t + 1) % 64];
  shared[t] = 2 * next;  // the neighbor may not have read yet
  __syncthreads();
  values[t] = shared[t];
}

CASE(write_after_read) {
  return count_wrong(write_after_read_kernel, 1, 64, 0, 64,
                     [](int i) { return 2.0f * ((i + 1) % 64); });
}

__global__ void divergent_barrier_kernel(float* values) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    values[0] = 1;
    __syncthreads();
  }
}

CASE(divergent_barrier) { return count_wrong(divergent_barrier_kernel, 1, 32, 0, 1, kAnything); }

__global__ void mask_lacks_caller_kernel(float* values) {
  values[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, values[threadIdx.x], 1);
}

CASE(mask_lacks_caller) { return count_wrong(mask_lacks_caller_kernel, 1, 32, 0, 32, kAnything); }

// Half of the lanes in the mask never arrive.
__global__ void mask_names_absent_lanes_kernel(float* values) {
  if (threadIdx.x < 16) values[threadIdx.x] = __shfl_xor_sync(kFull, values[threadIdx.x], 1);
  __syncthreads();
}

CASE(mask_names_absent_lanes) {
  return count_wrong(mask_names_absent_lanes_kernel, 1, 32, 0, 32, kAnything);
}

__global__ void reads_absent_lane_kernel(float* values) {
  if (threadIdx.x < 16) values[threadIdx.x] = __shfl_sync(0x0000ffffu, values[threadIdx.x], 20);
}

CASE(reads_absent_lane) {
  return count_wrong(reads_absent_lane_kernel, 1, 32, 0, 16, [](int) { return 20.0f; });
}

__global__ void different_operations_kernel(float* values) {
  if (threadIdx.x < 16) {
    values[threadIdx.x] = __shfl_xor_sync(kFull, values[threadIdx.x], 1);
  } else {
    values[threadIdx.x] = __shfl_down_sync(kFull, values[threadIdx.x], 1);
  }
}

CASE(different_operations) {
  return count_wrong(different_operations_kernel, 1, 32, 0, 32, kAnything);
}

__global__ void beyond_static_shared_kernel(float* values) {
  __shared__ float shared[32];
  float* const pointer = shared;
  pointer[threadIdx.x + 1] = 1;
  __syncthreads();
  values[threadIdx.x] = pointer[threadIdx.x];
}

CASE(beyond_static_shared) {
  return count_wrong(beyond_static_shared_kernel, 1, 32, 0, 32, kAnything);
}

__global__ void beyond_dynamic_shared_kernel(float* values) {
  extern __shared__ float shared[];
  shared[threadIdx.x] = values[threadIdx.x];
}

CASE(beyond_dynamic_shared) {
  return count_wrong(beyond_dynamic_shared_kernel, 1, 32, 31 * sizeof(float), 32, kAnything);
}

__global__ void beyond_global_kernel(float* values) { values[threadIdx.x + 1] = 1; }

CASE(beyond_global) { return count_wrong(beyond_global_kernel, 1, 32, 0, 32, kAnything); }

__global__ void misaligned_vector_kernel(float* values) {
  const float4 vector = *reinterpret_cast<const float4*>(values + threadIdx.x);
  values[0] = vector.x;
}

CASE(misaligned_vector) { return count_wrong(misaligned_vector_kernel, 1, 2, 0, 8, kAnything); }

__global__ void uninitialized_shared_kernel(float* values) {
  __shared__ float shared[32];
  if (threadIdx.x != 0) shared[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = shared[threadIdx.x];
}

CASE(uninitialized_shared) {
  return count_wrong(uninitialized_shared_kernel, 1, 32, 0, 32, [](int i) { return float(i); });
}

// A block must not see the shared memory of an earlier one.
__global__ void left_in_shared_kernel(float* values) {
  __shared__ float shared;
  if (blockIdx.x == 0) shared = 5;
  values[blockIdx.x] = shared;
}

CASE(left_in_shared) {
  return count_wrong(left_in_shared_kernel, 2, 1, 0, 2, [](int) { return 5.0f; });
}

__global__ void missing_warp_sync_kernel(float* values) {
  __shared__ float shared[32];
  shared[threadIdx.x] = values[threadIdx.x];
  // A shuffle makes the lanes meet, but does not order memory.
  const float own = __shfl_sync(kFull, values[threadIdx.x], threadIdx.x);
  values[threadIdx.x] = shared[threadIdx.x ^ 1] + own;
}

CASE(missing_warp_sync) {
  return count_wrong(missing_warp_sync_kernel, 1, 32, 0, 32,
                     [](int i) { return float(i + (i ^ 1)); });
}

__global__ void race_between_blocks_kernel(float* values) {
  if (threadIdx.x == 0) values[0] += 1;
}

CASE(race_between_blocks) {
  return count_wrong(race_between_blocks_kernel, 4, 32, 0, 1, [](int) { return 4.0f; });
}

// Three lanes wait for each other in a circle.
__global__ void deadlock_kernel(float* values) {
  if (threadIdx.x == 0) __syncwarp(0x3u);
  if (threadIdx.x == 1) __syncwarp(0x6u);
  if (threadIdx.x == 2) values[0] = __shfl_sync(0x5u, values[0], 0);
}

CASE(deadlock) { return count_wrong(deadlock_kernel, 1, 32, 0, 32, kAnything); }

__global__ void __launch_bounds__(32) beyond_launch_bounds_kernel(float* values) {
  values[threadIdx.x] = 0;
}

CASE(beyond_launch_bounds) {
  return count_wrong(beyond_launch_bounds_kernel, 1, 64, 0, 64, kAnything);
}

__global__ void too_much_shared_kernel(float* values) {
  __shared__ float shared[4 * 1024];
  extern __shared__ float more[];
  shared[threadIdx.x] = more[threadIdx.x] = 0;
  values[threadIdx.x] = shared[threadIdx.x];
}

CASE(too_much_shared) {
  return count_wrong(too_much_shared_kernel, 1, 32, 40 * 1024, 32, kAnything);
}

__global__ void launches_inside_kernel(float* values) {
  beyond_launch_bounds_kernel<<<1, 32>>>(values);
}

CASE(launch_inside_a_kernel) { return count_wrong(launches_inside_kernel, 1, 1, 0, 32, kAnything); }

__global__ void odd_width_kernel(float* values) {
  values[threadIdx.x] = __shfl_sync(kFull, values[threadIdx.x], 0, 12);
}

CASE(odd_width) { return count_wrong(odd_width_kernel, 1, 32, 0, 32, kAnything); }

__global__ void trap_kernel(float* values) {
  if (block_sum(values[threadIdx.x]) > 0 && threadIdx.x == 7) __trap();
}

CASE(trap) { return count_wrong(trap_kernel, 1, 64, 0, 64, kAnything); }
