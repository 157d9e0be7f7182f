// Resumes threads that wait: for their warp, at a barrier, or for the mask of active lanes.
#include <algorithm>

#include "comparisons.h"
#include "control_operations.h"
#include "conversions.h"
#include "memory_operations.h"

namespace ptx {
namespace {

// The lanes of one warp operation; null: not a member, or exited.
class WarpLanes {
 public:
  WarpLanes(Machine& machine, Thread* const* lanes) : machine_(machine), lanes_(lanes) {
    for (u32 k = 0; k < kWarp; ++k) {
      if (lanes_[k]) members_ |= u32{1} << k;
    }
    first_ = __builtin_ctz(members_);
    for (u32 k = 0; k < kWarp; ++k) {
      if (!lanes_[k]) continue;
      inputs_[k] = input_of(*lanes_[k]);
      ballot_ |= static_cast<u32>(inputs_[k] & 1) << k;
    }
  }

  void run() {
    for (u32 k = 0; k < kWarp; ++k) {
      if (lanes_[k]) give_result(k, *lanes_[k]);
    }
    for (u32 k = 0; k < kWarp; ++k) {
      if (lanes_[k]) lanes_[k]->state = State::Running;
    }
  }

 private:
  static u64 input_of(const Thread& t) {
    const Instruction& i = *t.at;
    switch (i.op) {
      case kWarpShuffle:
        return get<u32>(t, i.slot[2]);
      case kWarpMatch:
        return static_cast<u64>(get_integer(t, i.slot[2], i.type));
      case kWarpReduce:
        return get<u32>(t, i.slot[1]);
      case kWarpVote:
        return source_predicate(t, i, i.slot[1]);
      default:
        return 0;
    }
  }

  void give_result(u32 lane, Thread& t) {
    const Instruction& i = *t.at;
    u64& result = t.slots[i.slot[0]];
    switch (i.op) {
      case kWarpSync:
        break;
      case kWarpShuffle:
        result = shuffle(static_cast<int>(lane), t, i);
        break;
      case kWarpVote:
        result = vote(i.mode);
        break;
      case kWarpMatch:
        result = match(lane, t, i);
        break;
      case kWarpReduce:
        result = reduce(i);
        break;
      default:  // elect
        t.slots[i.slot[1]] = first_ == lane;
        result = first_;
    }
  }

  // c holds the last lane of a segment, and above it which bits of a lane name its segment.
  u64 shuffle(int lane, Thread& t, const Instruction& i) {
    const int b = static_cast<int>(get<u32>(t, i.slot[3]) & 31);
    const int c = static_cast<int>(get<u32>(t, i.slot[4]));
    const int segment = c >> 8 & 31;
    const int limit = (lane & segment) | (c & 31 & ~segment);
    int source;
    switch (i.mode) {
      case kShuffleUp:
        source = lane - b;
        break;
      case kShuffleDown:
        source = lane + b;
        break;
      case kShuffleXor:
        source = lane ^ b;
        break;
      default:
        source = (lane & segment) | (b & ~segment & 31);
    }
    const bool inside = i.mode == kShuffleUp ? source >= limit : source <= limit;
    if (!inside) source = lane;
    t.slots[i.slot[1]] = inside;
    if (lanes_[source]) return inputs_[source];
    ++machine_.undefined_shuffles;
    return static_cast<u32>(kPoison);
  }

  u64 vote(u8 mode) const {
    switch (mode) {
      case kVoteAll:
        return ballot_ == members_;
      case kVoteAny:
        return ballot_ != 0;
      case kVoteUniform:
        return ballot_ == 0 || ballot_ == members_;
      default:
        return ballot_;
    }
  }

  // mode: 0 the members that have the same value, 1 all members if all have.
  u64 match(u32 lane, Thread& t, const Instruction& i) const {
    u32 equal = 0;
    for (u32 k = 0; k < kWarp; ++k) {
      if (lanes_[k] && inputs_[k] == inputs_[lane]) equal |= u32{1} << k;
    }
    if (i.mode == 0) return equal;
    t.slots[i.slot[1]] = equal == members_;
    return equal == members_ ? members_ : 0;
  }

  // mode: an AtomicOperation.
  u64 reduce(const Instruction& i) const {
    u32 result = static_cast<u32>(inputs_[first_]);
    for (u32 k = first_ + 1; k < kWarp; ++k) {
      if (!lanes_[k]) continue;
      const u32 next = static_cast<u32>(inputs_[k]);
      result = is_signed(i.type) ? static_cast<u32>(atomic_result<s32>(
                                       i.mode, static_cast<s32>(result), static_cast<s32>(next), 0))
                                 : atomic_result<u32>(i.mode, result, next, 0);
    }
    return result;
  }

  Machine& machine_;
  Thread* const* lanes_;
  u32 members_ = 0, ballot_ = 0, first_ = 0;
  u64 inputs_[kWarp] = {};
};

bool same_operation(const Instruction& a, const Instruction& b) {
  return a.op == b.op && a.mode == b.mode && a.type == b.type;
}

}  // namespace

// All members of the thread's mask that have not exited must wait at the same operation.
bool Machine::release_warp(Thread& thread) {
  Thread* lanes[kWarp] = {};
  for (u32 lane = 0; lane < kWarp; ++lane) {
    const u32 k = thread.warp * kWarp + lane;
    if (!(thread.mask >> lane & 1) || k >= thread.block->threads.size()) continue;
    Thread& other = thread.block->threads[k];
    if (other.state == State::Exited) continue;
    if (other.state != State::AtWarpOperation || other.mask != thread.mask ||
        !same_operation(*other.at, *thread.at)) {
      return false;
    }
    lanes[lane] = &other;
  }
  WarpLanes(*this, lanes).run();
  ++warp_operations;
  return true;
}

// A barrier opens when all threads of the block wait at it that have not exited, or as many as the
// instruction says.
bool Machine::release_barriers(Block& block) {
  std::vector<Thread>& threads = block.threads;
  bool any = false;
  size_t exited = 0;
  for (const Thread& thread : threads) exited += thread.state == State::Exited;
  for (u32 barrier = 0; barrier < kBarriers; ++barrier) {
    std::vector<Thread*> waiting;
    u32 expected = 0;
    for (Thread& thread : threads) {
      if (thread.state != State::AtBarrier || thread.barrier != barrier) continue;
      waiting.push_back(&thread);
      expected = std::max(expected, thread.expected);
    }
    if (waiting.empty()) continue;
    const bool open = expected ? waiting.size() + block.arrived[barrier] >= expected
                               : waiting.size() + exited >= threads.size();
    if (!open) continue;

    u32 count = 0;
    for (size_t k = 0; k < waiting.size(); ++k) {
      const Thread& thread = *waiting[k];
      const Instruction& at = *thread.at;
      if (k && waiting[k - 1]->warp == thread.warp && waiting[k - 1]->at != &at &&
          (at.flags & kAligned)) {
        fail(thread, at, "threads of one warp wait at different barrier instructions");
      }
      if (at.op != kBarrierSync) count += source_predicate(thread, at, at.slot[1]);
    }
    block.arrived[barrier] = 0;
    for (Thread* thread : waiting) {
      u64& result = thread->slots[thread->at->slot[0]];
      switch (thread->at->op) {
        case kBarrierSync:
          break;
        case kBarrierCount:
          result = count;
          break;
        case kBarrierAnd:
          result = count == waiting.size();
          break;
        default:
          result = count > 0;
      }
      thread->state = State::Running;
    }
    ++barriers;
    barriers_after_exit += exited > 0;
    any = true;
  }
  return any;
}

// A barrier of the cluster opens when all its threads have arrived that have not exited. Those that
// wait go on; the others need not wait when they come to it.
bool Machine::release_cluster_barrier() {
  std::vector<Thread*> arrived;
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) {
      if (thread.state == State::Exited) continue;
      if (!thread.arrived_at_cluster || thread.cluster_phase != cluster_phase) return false;
      arrived.push_back(&thread);
    }
  }
  if (arrived.empty()) return false;
  ++cluster_phase;
  ++cluster_barriers;
  bool any = false;
  for (Thread* thread : arrived) {
    if (thread->state != State::AtClusterBarrier) continue;
    thread->state = State::Running;
    thread->arrived_at_cluster = false;
    any = true;
  }
  return any;
}

// Called when nothing else moves: the lanes of a warp at one activemask are converged then.
bool Machine::release_active_mask() {
  std::vector<Thread*> waiting;
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) {
      if (thread.state == State::AtActiveMask) waiting.push_back(&thread);
    }
  }
  if (!waiting.empty()) {
    const Thread& first = *waiting.front();
    std::vector<Thread*> lanes;
    u32 mask = 0;
    for (Thread& thread : first.block->threads) {
      if (thread.warp != first.warp || thread.state != State::AtActiveMask ||
          thread.at != first.at) {
        continue;
      }
      lanes.push_back(&thread);
      mask |= u32{1} << thread.lane;
    }
    for (Thread* thread : lanes) {
      thread->slots[thread->at->slot[0]] = mask;
      thread->state = State::Running;
    }
    return true;
  }
  return false;
}

}  // namespace ptx
