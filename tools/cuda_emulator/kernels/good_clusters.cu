// Kernels of clusters without faults.
#include "clusters.h"

#include <cuda_pipeline_primitives.h>

__global__ void passes_on_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = value;
  sync_cluster();
  const unsigned next = (__clusterRelativeBlockRank() + 1) % __clusterSizeInBlocks();
  value = of_rank(shared, next)[threadIdx.x];
  sync_cluster();
}

CASE(passes_on_to_the_next_block) {
  return count_wrong_in_clusters(passes_on_kernel, of_next_block);
}

// Rounds in which each block adds what the one before it has. Between the halves of a barrier a
// block does something else. The variable of the odd blocks comes after another one.
__global__ void rounds_kernel(float* values) {
  const unsigned rank = __clusterRelativeBlockRank(), t = threadIdx.x;
  if (rank % 2 == 1) {
    __shared__ float other[3];
    if (t < 3) other[t] = 1;
  }
  __shared__ float shared[kThreads];
  shared[t] = values[blockIdx.x * kThreads + t];
  float sum = 0;
  for (unsigned round = 1; round < kBlocks; ++round) {
    sync_cluster();
    const float got = of_rank(shared, (rank + round) % kBlocks)[kThreads - 1 - t];
    __cluster_barrier_arrive();
    sum += got;
    __cluster_barrier_wait();
    shared[t] += 1;
  }
  values[blockIdx.x * kThreads + t] = sum;
}

CASE(meets_in_two_halves) {
  return count_wrong_in_clusters(rounds_kernel, [](int i) {
    const int block = i / int{kThreads}, first = block / int{kBlocks} * int{kBlocks};
    int sum = 0;
    for (int round = 1; round < int{kBlocks}; ++round) {
      const int other = first + (block - first + round) % int{kBlocks};
      sum += other * int{kThreads} + int{kThreads} - 1 - i % int{kThreads} + round - 1;
    }
    return static_cast<float>(sum);
  });
}

// Threads that end need not arrive.
__global__ void some_end_kernel(float* values) {
  if (threadIdx.x % 2 == 1) return;
  passes_on_kernel(values);
}

CASE(threads_may_end_before_a_barrier) {
  return count_wrong_in_clusters(
      some_end_kernel, [](int i) { return i % 2 == 1 ? static_cast<float>(i) : of_next_block(i); });
}

__global__ void places_kernel(int* out) {
  const dim3 size = __clusterDim(), index = __clusterRelativeBlockIdx();
  const unsigned rank = (index.z * size.y + index.y) * size.x + index.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const bool right = rank == __clusterRelativeBlockRank() && __clusterSizeInBlocks() == 4 &&
                     size.x == 2 && size.y == 1 && size.z == 2 && blockIdx.x % 2 == index.x &&
                     index.y == 0 && blockIdx.z % 2 == index.z;
  out[block] = right ? static_cast<int>(rank) : -1;
}

CASE(blocks_know_their_place) {
  DeviceArray<int> out(4 * 3 * 2);
  int wrong =
      launch_clusters(places_kernel, dim3(4, 3, 2), 1, dim3(2, 1, 2), out.get()) != cudaSuccess;
  for (int i = 0; i < 24; ++i) wrong += out[i] != i / 12 * 2 + i % 2;
  return wrong;
}

// A launch without clusters is one of clusters of one block.
CASE(a_block_is_a_cluster) {
  DeviceArray<float> values(3 * kThreads);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  passes_on_kernel<<<3, kThreads>>>(values.get());
  int wrong = cudaGetLastError() != cudaSuccess;
  for (size_t i = 0; i < values.size(); ++i) wrong += values[i] != static_cast<float>(i);
  return wrong;
}

CASE(launches_of_clusters_are_checked) {
  DeviceArray<int> out(16);
  int wrong = 0;
  wrong += launch_clusters(places_kernel, 16, 1, 16, out.get()) != cudaErrorInvalidClusterSize;
  wrong += launch_clusters(places_kernel, 16, 1, 3, out.get()) != cudaErrorInvalidConfiguration;
  wrong +=
      launch_clusters(places_kernel, 16, 1, dim3(2, 0), out.get()) != cudaErrorInvalidClusterSize;
  wrong += cudaGetLastError() != cudaErrorInvalidClusterSize;
  cudaFuncAttributes attributes = {};
  wrong += cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(places_kernel)) !=
           cudaSuccess;
  return wrong + (attributes.ptxVersion != 90);
}

// Two groups of four numbers a thread: one is added up while the next one is copied.
__global__ void copies_ahead_kernel(const float* from, float* sums, int groups) {
  __shared__ alignas(16) float shared[2][4 * kThreads];
  const unsigned t = threadIdx.x;
  float sum = 0;
  __pipeline_memcpy_async(&shared[0][4 * t], from + 4 * t, 16);
  __pipeline_commit();
  for (int group = 0; group < groups; ++group) {
    const bool more = group + 1 < groups;
    if (more) {
      const float* next = from + 4 * kThreads * (group + 1);
      __pipeline_memcpy_async(&shared[(group + 1) % 2][4 * t], next + 4 * t, 16, 4);
      __pipeline_commit();
    }
    __pipeline_wait_prior(more ? 1 : 0);
    __syncthreads();
    for (unsigned i = 0; i < 4; ++i)
      sum += shared[group % 2][(4 * t + 4 * kThreads - 4 + i) % (4 * kThreads)];
    __syncthreads();
  }
  sums[t] = sum;
}

CASE(copies_ahead) {
  constexpr int groups = 5;
  DeviceArray<float> from(groups * 4 * kThreads), sums(kThreads);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  copies_ahead_kernel<<<1, kThreads>>>(from.get(), sums.get(), groups);
  int wrong = cudaGetLastError() != cudaSuccess;
  for (int t = 0; t < int{kThreads}; ++t) {
    int sum = 0;
    for (int group = 0; group < groups; ++group) {
      const int first = group * 4 * int{kThreads} + 4 * ((t + int{kThreads} - 1) % int{kThreads});
      for (int i = 0; i < (group == 0 ? 4 : 3); ++i) sum += first + i;  // the last is a zero
    }
    wrong += sums[t] != static_cast<float>(sum);
  }
  return wrong;
}
