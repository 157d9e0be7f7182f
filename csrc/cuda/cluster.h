// Clusters: blocks that run at the same time and read one another's shared memory. Devices of
// compute capability 9.0 and later have them.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "cuda/launch.h"

// Whether the code that is being compiled may use them. For older architectures a kernel that does
// has no body; has_clusters() tells its launcher.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define FVFAST_CLUSTERS 1
#else
#define FVFAST_CLUSTERS 0
#endif

namespace fvfast::cuda {

constexpr int kMostClusterBlocks = 8;  // that every device with clusters accepts

#if FVFAST_CLUSTERS
// The number of this block in its cluster.
__device__ __forceinline__ int cluster_rank() {
  return static_cast<int>(__clusterRelativeBlockRank());
}

// What another block of the cluster has where this one has `mine` in shared memory. The other one
// must have begun, and must not have ended.
template <typename T>
__device__ __forceinline__ const T* of_block(const T* mine, int rank) {
  return static_cast<const T*>(__cluster_map_shared_rank(mine, static_cast<unsigned>(rank)));
}

// A barrier of all threads of a cluster, in two halves: what a thread did before it arrived is seen
// by those that have waited.
__device__ __forceinline__ void arrive_at_cluster() { __cluster_barrier_arrive(); }
__device__ __forceinline__ void wait_for_cluster() { __cluster_barrier_wait(); }
#endif

// Whether a kernel was compiled for clusters, for the current device. A new device also runs the
// PTX of an older architecture, which has none: the number of the device does not tell.
template <typename... Parameters>
bool has_clusters(void (*kernel)(Parameters...), const char* what) {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)), what);
  return attributes.ptxVersion >= 90;
}

// Launches a kernel in clusters of `cluster` blocks along x, of which the grid has a multiple.
template <typename... Parameters, typename... Arguments>
void launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster,
                     const Target& target, const char* what, Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = grid;
  configuration.blockDim = block;
  configuration.stream = stream_of(target);
  configuration.attrs = &attribute;
  configuration.numAttrs = 1;
  // A refusal stays on record too, where check_launch() clears it.
  static_cast<void>(
      cudaLaunchKernelEx(&configuration, kernel, std::forward<Arguments>(arguments)...));
  check_launch(what);
}

}  // namespace fvfast::cuda
