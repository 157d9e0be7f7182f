// Frames of functions, the turns of threads, blocks and launches.
#include "machine.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <stdexcept>

#include "special_registers.h"

namespace ptx {
namespace {

constexpr size_t kMaxDepth = 1000;  // of calls
constexpr int kQuantum = 20000;     // instructions of one thread before the next has a turn
constexpr int kRandomQuantum = 256;

// The numbers from 0 to count - 1, in the launch's order.
template <class Integer>
std::vector<Integer> turns(size_t count, int order) {
  std::vector<Integer> result(count);
  std::iota(result.begin(), result.end(), Integer{0});
  if (order == kDescending) std::reverse(result.begin(), result.end());
  return result;
}

}  // namespace

string Machine::text_of(const Instruction& instruction) const {
  const int line = instruction.line;
  if (line < 1 || line > static_cast<int>(lines->size())) return "";
  string text = (*lines)[line - 1];
  text.erase(0, std::min(text.find_first_not_of(" \t"), text.size()));
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

void Machine::fail(const Thread& thread, const Instruction& instruction, const string& what) const {
  char where[160];
  std::snprintf(where, sizeof where,
                " [block (%u,%u,%u) thread (%u,%u,%u)] PTX line %d: ", thread.block->index[0],
                thread.block->index[1], thread.block->index[2], thread.index[0], thread.index[1],
                thread.index[2], instruction.line);
  throw std::runtime_error(kernel + where + text_of(instruction) + " -- " + what);
}

u64 Machine::special_register(const Thread& thread, int which) const {
  const u32 lane = thread.lane;
  const u64 one = u64{1} << lane;
  switch (which) {
    case kThreadIndex:
    case kThreadIndex + 1:
    case kThreadIndex + 2:
      return thread.index[which - kThreadIndex];
    case kBlockSize:
    case kBlockSize + 1:
    case kBlockSize + 2:
      return block[which - kBlockSize];
    case kBlockIndex:
    case kBlockIndex + 1:
    case kBlockIndex + 2:
      return thread.block->index[which - kBlockIndex];
    case kGridSize:
    case kGridSize + 1:
    case kGridSize + 2:
      return grid[which - kGridSize];
    case kLane:
      return lane;
    case kWarpIndex:
      return thread.warp;
    case kWarpCount:
      return (thread.block->threads.size() + kWarp - 1) / kWarp;
    case kLanesEqual:
      return static_cast<u32>(one);
    case kLanesLess:
      return static_cast<u32>(one - 1);
    case kLanesLessEqual:
      return static_cast<u32>(2 * one - 1);
    case kLanesGreater:
      return static_cast<u32>(~(2 * one - 1));
    case kLanesGreaterEqual:
      return static_cast<u32>(~(one - 1));
    case kProcessorCount:
      return 1;
    case kDynamicShared:
      return dynamic_shared;
    case kTotalShared:
      return shared_bytes;
    case kClusterIndex:
    case kClusterIndex + 1:
    case kClusterIndex + 2:
      return thread.block->index[which - kClusterIndex] / cluster[which - kClusterIndex];
    case kClusterCount:
    case kClusterCount + 1:
    case kClusterCount + 2:
      return grid[which - kClusterCount] / cluster[which - kClusterCount];
    case kIndexInCluster:
    case kIndexInCluster + 1:
    case kIndexInCluster + 2:
      return thread.block->index[which - kIndexInCluster] % cluster[which - kIndexInCluster];
    case kClusterSize:
    case kClusterSize + 1:
    case kClusterSize + 2:
      return cluster[which - kClusterSize];
    case kClusterRank:
      return thread.block->rank;
    case kClusterBlocks:
      return blocks.size();
    case kIsExplicitCluster:
      return blocks.size() > 1;
    default:
      return 0;
  }
}

void Machine::enter(Thread& thread, const FunctionCode& function, const CallSite* site) {
  if (thread.frames.size() > kMaxDepth) {
    throw std::runtime_error(kernel + ": device stack overflow");
  }
  const u32 registers = static_cast<u32>(thread.registers.size());
  const u32 local = static_cast<u32>(thread.local.size());
  thread.frames.push_back({thread.next, registers, local, &function, site});
  thread.registers.insert(thread.registers.end(), function.registers.begin(),
                          function.registers.end());
  thread.local.resize(local + function.frame, kPoisonByte);
  thread.slots = thread.registers.data() + registers;
  thread.slots[kFrameSlot] = local;
  thread.next = function.entry;
  for (const auto& [slot, which] : function.specials) {
    thread.slots[slot] = special_register(thread, which);
  }
}

void Machine::leave(Thread& thread) {
  const Frame frame = thread.frames.back();
  thread.frames.pop_back();
  if (thread.frames.empty()) {
    thread.state = State::Exited;
    return;
  }
  const Frame& caller = thread.frames.back();
  for (size_t k = 0; k < frame.site->results.size(); ++k) {
    const Parameter& result = frame.function->out[k];
    std::memcpy(&thread.local[caller.local + frame.site->results[k]],
                &thread.local[frame.local + result.offset], result.size);
  }
  thread.registers.resize(frame.registers);
  thread.local.resize(frame.local);
  thread.slots = thread.registers.data() + caller.registers;
  thread.next = frame.return_to;
}

// One turn of a thread: until it waits, exits, or has used up its steps.
void Machine::run(Thread& thread) {
  const int quantum =
      order >= kFirstRandomOrder ? 1 + static_cast<int>(random() % kRandomQuantum) : kQuantum;
  const Instruction* instructions = program->instructions.data();
  int left = quantum;
  while (left > 0 && thread.state == State::Running) {
    const Instruction& instruction = instructions[thread.next++];
    --left;
    if (instruction.guard != kNoGuard &&
        (thread.slots[instruction.guard] & 1) == instruction.guard_negated) {
      continue;
    }
    ++instruction.count;
    instruction.run(thread, instruction);
  }
  steps += quantum - left;
  thread.steps += quantum - left;
  thread.block->steps += quantum - left;
  if (steps > max_steps) {
    fail(thread, instructions[thread.next ? thread.next - 1 : 0],
         "more than max_steps instructions: endless loop?");
  }
}

bool Block::has_ended() const {
  return std::all_of(threads.begin(), threads.end(),
                     [](const Thread& thread) { return thread.state == State::Exited; });
}

void Machine::start_block(Block& started) {
  const u32 count = block[0] * block[1] * block[2];
  started.threads.resize(count);
  started.shared.assign(shared_bytes, kPoisonByte);
  std::fill(std::begin(started.arrived), std::end(started.arrived), 0);
  started.steps = 0;
  for (u32 k = 0; k < count; ++k) {
    Thread& thread = started.threads[k];
    thread.machine = this;
    thread.block = &started;
    thread.lane = k % kWarp;
    thread.warp = k / kWarp;
    thread.state = State::Running;
    thread.carry = false;
    thread.arrived_at_cluster = false;
    thread.index[0] = k % block[0];
    thread.index[1] = k / block[0] % block[1];
    thread.index[2] = k / block[0] / block[1];
    thread.registers.clear();
    thread.frames.clear();
    thread.local.assign(kLocalBase, kPoisonByte);
    thread.accesses.assign(program->sites.size(), 0);
    thread.steps = 0;
    thread.next = 0;
    enter(thread, program->functions.at(kKernel), nullptr);
  }
}

// Runs the blocks of a cluster, whose indices are set, at the same time.
void Machine::run_cluster() {
  cluster_phase = 0;
  std::vector<Thread*> all;
  for (Block& each : blocks) {
    start_block(each);
    for (Thread& thread : each.threads) all.push_back(&thread);
  }
  std::vector<u32> turn = turns<u32>(all.size(), order);
  for (;;) {
    if (order >= kFirstRandomOrder) std::shuffle(turn.begin(), turn.end(), random);
    bool moved = false;
    for (const u32 k : turn) {
      if (all[k]->state != State::Running) continue;
      run(*all[k]);
      moved = true;
    }
    size_t exited = 0;
    for (Thread* thread : all) {
      if (thread->state == State::AtWarpOperation) moved |= release_warp(*thread);
      exited += thread->state == State::Exited;
    }
    if (exited == all.size()) break;
    for (Block& each : blocks) moved |= release_barriers(each);
    moved |= release_cluster_barrier();
    if (!moved && !release_active_mask()) report_deadlock();
  }
  for (const Block& each : blocks) longest_block = std::max(longest_block, each.steps);
  for (const Thread* thread : all) longest_thread = std::max(longest_thread, thread->steps);
  if (statistics) count_cluster();
}

// Names a thread that waits: one at a warp operation if there is one.
void Machine::report_deadlock() const {
  std::vector<const Thread*> all;
  for (const Block& each : blocks) {
    for (const Thread& thread : each.threads) all.push_back(&thread);
  }
  const size_t exited = std::count_if(
      all.begin(), all.end(), [](const Thread* thread) { return thread->state == State::Exited; });
  for (const Thread* thread : all) {
    if (thread->state != State::AtWarpOperation) continue;
    char what[120];
    std::snprintf(what, sizeof what,
                  "deadlock: lanes of mask %08x never arrive together (%zu of %zu threads have "
                  "exited)",
                  thread->mask, exited, all.size());
    fail(*thread, *thread->at, what);
  }
  for (const Thread* thread : all) {
    if (thread->state == State::Exited) continue;
    fail(*thread, *thread->at, "deadlock: not all threads arrive at this barrier");
  }
  throw std::logic_error(kernel + ": a deadlock without a thread that waits");
}

void Machine::launch() {
  const u64 clusters_x = grid[0] / cluster[0], clusters_y = grid[1] / cluster[1];
  const u64 clusters = clusters_x * clusters_y * (grid[2] / cluster[2]);
  blocks.resize(cluster[0] * cluster[1] * cluster[2]);
  std::vector<u64> turn = turns<u64>(clusters, order);
  random.seed(order);
  if (order >= kFirstRandomOrder) std::shuffle(turn.begin(), turn.end(), random);
  for (const Instruction& instruction : program->instructions) instruction.count = 0;
  for (Site& site : program->sites) {
    Site fresh;
    fresh.instruction = site.instruction;
    fresh.kind = site.kind;
    fresh.bytes = site.bytes;
    site = fresh;
  }
  for (const u64 k : turn) {
    const u64 place[3] = {k % clusters_x, k / clusters_x % clusters_y, k / clusters_x / clusters_y};
    for (u32 rank = 0; rank < blocks.size(); ++rank) {
      const u32 inside[3] = {rank % cluster[0], rank / cluster[0] % cluster[1],
                             rank / cluster[0] / cluster[1]};
      blocks[rank].rank = rank;
      for (int d = 0; d < 3; ++d) {
        blocks[rank].index[d] = static_cast<u32>(place[d]) * cluster[d] + inside[d];
      }
    }
    run_cluster();
  }
}

}  // namespace ptx
