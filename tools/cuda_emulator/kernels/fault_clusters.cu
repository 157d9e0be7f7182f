// Kernels of clusters with one fault each, which the tests must find.
#include "clusters.h"

#include <cuda_pipeline_primitives.h>

__device__ unsigned next_rank() {
  return (__clusterRelativeBlockRank() + 1) % __clusterSizeInBlocks();
}

__global__ void no_barrier_before_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = value;
  value = of_rank(shared, next_rank())[threadIdx.x];
  sync_cluster();
}

CASE(no_barrier_before_reading) {
  return count_wrong_in_clusters(no_barrier_before_kernel, of_next_block);
}

// All blocks have begun, but may not have written.
__global__ void barrier_before_writing_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  const float* next = nullptr;
  shared[threadIdx.x] = -1;
  sync_cluster();
  next = of_rank(shared, next_rank());
  shared[threadIdx.x] = value;
  value = next[threadIdx.x];
  sync_cluster();
}

CASE(barrier_before_writing) {
  return count_wrong_in_clusters(barrier_before_writing_kernel, of_next_block);
}

// The barrier of a block does not wait for another block.
__global__ void barrier_of_block_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = -1;
  sync_cluster();
  shared[threadIdx.x] = value;
  __syncthreads();
  value = of_rank(shared, next_rank())[threadIdx.x];
  sync_cluster();
}

CASE(barrier_of_the_block_alone) {
  return count_wrong_in_clusters(barrier_of_block_kernel, of_next_block);
}

__global__ void no_barrier_after_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = value;
  sync_cluster();
  const float* next = of_rank(shared, next_rank());
  __syncthreads();
  value = next[threadIdx.x];
}

CASE(no_barrier_at_the_end) {
  return count_wrong_in_clusters(no_barrier_after_kernel, of_next_block);
}

__global__ void writes_late_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = value;
  sync_cluster();
  float* first = of_rank(shared, 0);
  sync_cluster();
  if (__clusterRelativeBlockRank() == 0) return;
  for (int i = 0; i < 2; ++i) __syncthreads();
  first[threadIdx.x] = value;
}

CASE(writes_to_a_block_that_has_ended) {
  return count_wrong_in_clusters(writes_late_kernel, [](int i) { return static_cast<float>(i); });
}

__global__ void wrong_rank_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = value;
  sync_cluster();
  value = of_rank(shared, __clusterRelativeBlockRank() + 1)[threadIdx.x];
  sync_cluster();
}

CASE(rank_beyond_the_cluster) { return count_wrong_in_clusters(wrong_rank_kernel, of_next_block); }

__global__ void number_for_rank_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  shared[threadIdx.x] = value;
  sync_cluster();
  value = of_rank(shared, (__clusterRelativeBlockRank() + 2) % kBlocks)[threadIdx.x];
  sync_cluster();
}

CASE(another_rank) { return count_wrong_in_clusters(number_for_rank_kernel, of_next_block); }

__global__ void not_shared_kernel(float* values) { values[0] = of_rank(values, next_rank())[0]; }

CASE(maps_what_is_not_shared) { return count_wrong_in_clusters(not_shared_kernel, of_next_block); }

__global__ void arrives_twice_kernel(float* values) {
  __cluster_barrier_arrive();
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
  values[0] = 0;
}

CASE(arrives_twice) { return count_wrong_in_clusters(arrives_twice_kernel, of_next_block); }

__global__ void waits_only_kernel(float* values) {
  __cluster_barrier_wait();
  values[0] = 0;
}

CASE(waits_without_arriving) { return count_wrong_in_clusters(waits_only_kernel, of_next_block); }

__global__ void one_block_stays_away_kernel(float* values) {
  if (__clusterRelativeBlockRank() == 2 && threadIdx.x == 0) {
    __syncwarp(0x3u);  // the other lane of this mask waits for the cluster
  }
  sync_cluster();
  values[0] = 0;
}

CASE(deadlock_of_a_cluster) {
  return count_wrong_in_clusters(one_block_stays_away_kernel, of_next_block);
}

__global__ void no_wait_for_copies_kernel(float* values) {
  __shared__ float shared[kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  __pipeline_memcpy_async(&shared[threadIdx.x], &value, 4);
  __pipeline_commit();
  __syncthreads();
  value = shared[kThreads - 1 - threadIdx.x];
}

CASE(no_wait_for_copies) {
  return count_wrong_in_clusters(no_wait_for_copies_kernel, [](int i) {
    return static_cast<float>(i - i % int{kThreads} + int{kThreads} - 1 - i % int{kThreads});
  });
}

__global__ void waits_for_too_few_kernel(float* values) {
  __shared__ float shared[2][kThreads];
  float& value = values[blockIdx.x * kThreads + threadIdx.x];
  for (int i = 0; i < 2; ++i) {
    __pipeline_memcpy_async(&shared[i][threadIdx.x], &value, 4);
    __pipeline_commit();
  }
  __pipeline_wait_prior(1);  // the last batch may still be on its way
  value = shared[1][threadIdx.x];
}

CASE(waits_for_too_few_copies) {
  return count_wrong_in_clusters(waits_for_too_few_kernel,
                                 [](int i) { return static_cast<float>(i); });
}

// All clusters count in the same place. That each of them has met at a barrier orders none of them
// after another.
__global__ void race_between_clusters_kernel(float* values) {
  sync_cluster();
  if (__clusterRelativeBlockRank() == 0 && threadIdx.x == 0) values[0] += 1;
  sync_cluster();
}

CASE(race_between_clusters) {
  return count_wrong_in_clusters(race_between_clusters_kernel,
                                 [](int i) { return static_cast<float>(i == 0 ? 2 : i); });
}
