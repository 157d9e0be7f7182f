// The machine: threads, memory, and the launch of a kernel.
#pragma once

#include <cstring>
#include <random>
#include <type_traits>

#include "program.h"

namespace ptx {

enum class State : u8 {
  Running,
  AtBarrier,
  AtClusterBarrier,
  AtWarpOperation,
  AtActiveMask,
  Exited,
};

struct Frame {
  int return_to;
  u32 registers, local;  // where those of the function begin
  const FunctionCode* function;
  const CallSite* site;
};

struct Machine;
struct Block;

struct Thread {
  u64* slots = nullptr;  // registers of the function that runs
  Machine* machine = nullptr;
  Block* block = nullptr;
  int next = 0;  // instruction
  State state = State::Running;
  bool carry = false;
  bool arrived_at_cluster = false;  // and has not waited yet
  u32 cluster_phase = 0;            // at which it has arrived
  u32 lane = 0, warp = 0;
  u32 index[3] = {};  // threadIdx

  // What a thread that does not run waits for.
  const Instruction* at = nullptr;
  u32 mask = 0;
  u32 barrier = 0;
  u32 expected = 0;  // threads at the barrier; 0: all

  std::vector<u64> registers;
  std::vector<u8> local;
  std::vector<Frame> frames;
  std::vector<u32> accesses;  // how often it came to each site
  u64 steps = 0;
};

// A piece of the host's memory that the kernel may access.
struct Region {
  u64 base, size;
  u64 device;  // its address on a GPU, where allocations begin at multiples of 256
  bool writable, constant;
  string name;
  u64 read = 0, written = 0;  // bytes
  std::vector<u8> touched{};  // of each sector: kTouchedByRead | kTouchedByWrite
};
constexpr u8 kTouchedByRead = 1;
constexpr u8 kTouchedByWrite = 2;

constexpr int kBarriers = 16;
constexpr u32 kMostClusterBlocks = 8;

// A block that runs: alone, or with the others of its cluster.
struct Block {
  u32 index[3] = {};
  u32 rank = 0;  // in the cluster
  std::vector<Thread> threads;
  std::vector<u8> shared;
  u32 arrived[kBarriers] = {};  // by bar.arrive, without waiting
  u64 steps = 0;

  bool has_begun() const { return steps > 0; }
  bool has_ended() const;
};

// Orders of threads between barriers, and of blocks. Every larger number is the seed of a random
// order, in which threads are also interrupted at random instructions.
constexpr int kAscending = 0;
constexpr int kDescending = 1;
constexpr int kFirstRandomOrder = 2;

struct Machine {
  string kernel;
  Program* program = nullptr;
  const std::vector<string>* lines = nullptr;  // of the PTX text
  u32 grid[3], block[3], cluster[3];
  u32 dynamic_shared = 0;
  int order = kAscending;
  std::mt19937_64 random;
  bool statistics = true;
  u64 max_steps = 0;

  std::vector<Region> regions;  // sorted by address
  size_t last_region = 0;       // where the last access was
  std::vector<u8> parameters;
  u32 shared_bytes = 0;       // of a block
  std::vector<Block> blocks;  // of the cluster that runs
  u32 cluster_phase = 0;      // barriers of the cluster that have opened

  u64 steps = 0, barriers = 0, barriers_after_exit = 0;
  u64 warp_operations = 0, undefined_shuffles = 0;
  u64 cluster_barriers = 0;
  u64 longest_block = 0, longest_thread = 0;  // steps
  u64 stale_reads = 0;  // ld.global.nc of sectors that this launch has written

  void launch();

  // machine.cpp: frames and scheduling
  void enter(Thread& thread, const FunctionCode& function, const CallSite* site);
  void leave(Thread& thread);
  u64 special_register(const Thread& thread, int which) const;
  void run(Thread& thread);
  void start_block(Block& started);
  void run_cluster();
  [[noreturn]] void report_deadlock() const;
  string text_of(const Instruction& instruction) const;
  [[noreturn]] void fail(const Thread& thread, const Instruction& instruction,
                         const string& what) const;

  // memory.cpp: the host's address of a piece of memory, checked and counted
  u8* access(Thread& thread, const Instruction& instruction, u64 address, unsigned bytes,
             Access kind);
  u8* access_shared(Thread& thread, const Instruction& instruction, Space space, u64 place,
                    unsigned bytes, Access kind);
  u8* access_global(Thread& thread, const Instruction& instruction, Space space, u64 address,
                    unsigned bytes, Access kind);
  Region* region_of(u64 address, unsigned bytes);
  string string_at(Thread& thread, const Instruction& instruction, u64 address);
  [[noreturn]] void fail_access(const Thread& thread, const Instruction& instruction,
                                const char* what, u64 address, unsigned bytes, Access kind) const;

  // synchronization.cpp: each returns whether a thread runs again
  bool release_warp(Thread& thread);
  bool release_barriers(Block& waiting);
  bool release_cluster_barrier();
  bool release_active_mask();

  // statistics.cpp
  void record(Thread& thread, const Instruction& instruction, u64 address);
  void count_cluster();
};

template <class T>
T get(const Thread& thread, int slot) {
  T value;
  std::memcpy(&value, thread.slots + slot, sizeof value);
  return value;
}

// Results fill the slot: sign-extended for signed types, else zero-extended. NaNs of float32 are
// canonical, as on a GPU.
template <class T>
void put(Thread& thread, int slot, T value) {
  if constexpr (std::is_same_v<T, float>) {
    u32 bits;
    std::memcpy(&bits, &value, sizeof bits);
    thread.slots[slot] = value != value ? 0x7fffffffu : bits;
  } else if constexpr (std::is_same_v<T, double>) {
    std::memcpy(thread.slots + slot, &value, sizeof value);
  } else if constexpr (std::is_signed_v<T>) {
    thread.slots[slot] = static_cast<u64>(static_cast<s64>(value));
  } else {
    thread.slots[slot] = static_cast<u64>(value);
  }
}

}  // namespace ptx
