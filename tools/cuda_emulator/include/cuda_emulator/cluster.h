// Clusters: blocks that run at the same time, meet at barriers, and read one another's shared
// memory. In a launch without clusters, each block is one.
#pragma once

#include "cuda_emulator/scheduler.h"

namespace cuda_emulator {

inline dim3 cluster_size;  // of the launch, in blocks

// What the block `rank` has where the current one has `mine`.
inline void* map_shared_rank(const void* mine, unsigned rank) {
  const Unobserved unobserved;
  if (rank >= scheduler.blocks()) {
    fail("asks for the shared memory of block " + std::to_string(rank) + " of its cluster, which " +
         "has " + std::to_string(scheduler.blocks()));
  }
  const Block& other = scheduler.block_of_rank(rank);
  const SharedPlace place = scheduler.block().memory.place_of(mine);
  if (place.owner == nullptr) fail("an address is not one of shared memory of this block");
  char* memory = other.memory.find(place.owner);
  if (memory == nullptr) {
    fail("asks for shared memory of block " + to_text(other.index) + " of its cluster, which " +
         (other.alive == 0 ? "has ended"
                           : "may not have begun: a barrier of the cluster is missing"));
  }
  return memory + place.offset;
}

inline uint3 index_in_cluster() {
  const uint3 block = blockIdx;
  return {block.x % cluster_size.x, block.y % cluster_size.y, block.z % cluster_size.z};
}

}  // namespace cuda_emulator

#define __cluster_barrier_arrive() \
  ::cuda_emulator::scheduler.arrive_at_cluster(CUDA_EMULATOR_SITE("__cluster_barrier_arrive"))
#define __cluster_barrier_wait() \
  ::cuda_emulator::scheduler.wait_for_cluster(CUDA_EMULATOR_SITE("__cluster_barrier_wait"))

inline void* __cluster_map_shared_rank(const void* mine, unsigned rank) {
  return ::cuda_emulator::map_shared_rank(mine, rank);
}
inline unsigned __clusterRelativeBlockRank() { return ::cuda_emulator::scheduler.block().rank; }
inline unsigned __clusterSizeInBlocks() { return ::cuda_emulator::scheduler.blocks(); }
inline dim3 __clusterDim() { return ::cuda_emulator::cluster_size; }
inline dim3 __clusterRelativeBlockIdx() {
  const uint3 index = ::cuda_emulator::index_in_cluster();
  return {index.x, index.y, index.z};
}
