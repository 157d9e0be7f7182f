// Threads, warps and blocks, and what they wait for. scheduler.h lets them run.
#pragma once

#include "cuda_emulator/fault.h"
#include "cuda_emulator/fiber.h"
#include "cuda_emulator/order.h"
#include "cuda_emulator/sanitizers.h"
#include "cuda_emulator/shared_memory.h"

namespace cuda_emulator {

constexpr unsigned kMaxThreads = 1024;  // of a block
constexpr unsigned kWarpThreads = 32;
constexpr unsigned kMaxClusterBlocks = 8;  // of a cluster, on every device that has clusters

enum class State : uint8_t { kReady, kAtBarrier, kAtClusterBarrier, kInWarp, kDone };

struct Block;

// A copy to shared memory that has begun.
struct AsyncCopy {
  void* to;
  const void* from;
  unsigned bytes, zeros;  // of them, at the end, zeros in place of what is there
  unsigned batch;         // of those that the thread has committed
};

struct Thread {
  Context context;
  char* stack = nullptr;       // null: not started, or done
  const Site* site = nullptr;  // where it waits
  Block* block = nullptr;
  uint3 index = {};     // threadIdx
  uint16_t number = 0;  // in the block, x fastest
  State state = State::kReady;
  unsigned barriers = 0;          // that it has arrived at
  unsigned cluster_arrivals = 0;  // at barriers of the cluster
  unsigned cluster_waits = 0;     // for barriers of the cluster
  unsigned batches = 0;           // of copies
  std::vector<AsyncCopy> copies;  // that have not arrived

  unsigned lane() const { return number % kWarpThreads; }
  unsigned warp() const { return number / kWarpThreads; }
};

// A warp operation in which lanes wait. Lanes of one warp can wait in several with different masks.
struct WarpOperation {
  const Site* site;
  int kind;
  unsigned mask;     // the lanes that take part
  unsigned arrived;  // those of them that wait
  void* clock;       // for ThreadSanitizer
};

struct Warp {
  unsigned exited = 0;  // lanes that have ended, or never were
  unsigned open = 0;    // operations under way
  WarpOperation operations[kWarpThreads];
  uint64_t given[kWarpThreads];     // by a lane to the operation it waits in
  int source[kWarpThreads];         // the lane that it wants the value of
  uint64_t received[kWarpThreads];  // by a lane from the operation it was in
  unsigned operations_so_far = 0;
};

// Addresses with which ThreadSanitizer orders events: what was released there comes before what is
// acquired. New for each block, since only clusters order blocks.
struct Clocks {
  uint64_t barrier[2];  // in turn: who wakes late must not see what others did since
  uint64_t cluster[2];  // the same, of the cluster's barriers: those of its first block count
  uint64_t warp[kMaxThreads / kWarpThreads][64];
};

struct Block {
  uint3 index = {};   // blockIdx
  unsigned rank = 0;  // in the cluster
  unsigned count = 0, alive = 0;
  unsigned at_barrier = 0;
  const Site* barrier_site = nullptr;
  unsigned predicates = 0, predicates_before = 0;
  Thread threads[kMaxThreads];
  Warp warps[kMaxThreads / kWarpThreads];
  SharedMemory memory;
  Clocks* clocks = nullptr;  // null without ThreadSanitizer

  // Before it runs, as the block `rank` of a cluster.
  void prepare(uint3 where, unsigned rank_in_cluster);
};

inline void Block::prepare(uint3 where, unsigned rank_in_cluster) {
  index = where;
  rank = rank_in_cluster;
  count = alive = blockDim.x * blockDim.y * blockDim.z;
  at_barrier = 0;
  barrier_site = nullptr;
  predicates = 0;
  uint3 place = {0, 0, 0};
  for (unsigned number = 0; number < count; ++number) {
    Thread& thread = threads[number];
    thread.block = this;
    thread.index = place;
    thread.number = static_cast<uint16_t>(number);
    thread.state = State::kReady;
    thread.stack = nullptr;
    thread.barriers = thread.cluster_arrivals = thread.cluster_waits = thread.batches = 0;
    thread.copies.clear();
    if (++place.x == blockDim.x) {
      place.x = 0;
      if (++place.y == blockDim.y) {
        place.y = 0;
        ++place.z;
      }
    }
  }
  for (unsigned first = 0; first < count; first += kWarpThreads) {
    Warp& warp = warps[first / kWarpThreads];
    warp.open = warp.operations_so_far = 0;
    const unsigned lanes = count - first;
    warp.exited = lanes < kWarpThreads ? ~0u << lanes : 0;
  }
}

}  // namespace cuda_emulator
