// Launches of test kernels in clusters.
#pragma once

#include "cases.h"

constexpr unsigned kBlocks = 4, kThreads = 32;  // of a cluster, and of each of its blocks

template <typename... Parameters, typename... Values>
cudaError_t launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, dim3 cluster,
                            Values... values) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = cluster.x;
  attribute.val.clusterDim.y = cluster.y;
  attribute.val.clusterDim.z = cluster.z;
  cudaLaunchConfig_t configuration = {};
  configuration.gridDim = grid;
  configuration.blockDim = block;
  configuration.attrs = &attribute;
  configuration.numAttrs = 1;
  return cudaLaunchKernelEx(&configuration, kernel, values...);
}

__device__ inline void sync_cluster() {
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}

template <typename T>
__device__ T* of_rank(T* mine, unsigned rank) {
  return static_cast<T*>(__cluster_map_shared_rank(mine, rank));
}

// Runs a kernel of one argument in two clusters, on numbers 0, 1, 2, ..., and counts those of the
// results that are not what `expected` says.
template <typename Expected>
int count_wrong_in_clusters(void (*kernel)(float*), Expected expected) {
  constexpr int count = 2 * kBlocks * kThreads;
  DeviceArray<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = i;
  int wrong = launch_clusters(kernel, 2 * kBlocks, kThreads, kBlocks, values.get()) != cudaSuccess;
  static_cast<void>(cudaGetLastError());  // clears it for the next case
  for (int i = 0; i < count; ++i) wrong += !(values[i] == expected(i));
  return wrong;
}

// The number that the same thread of the next block of the cluster has.
inline float of_next_block(int i) {
  constexpr int all = kBlocks * kThreads;
  return static_cast<float>(i / all * all + (i % all + kThreads) % all);
}
