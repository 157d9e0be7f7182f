// Handlers of branches, calls, barriers and warp operations.
#pragma once

#include "machine.h"

namespace ptx {

inline void do_nothing(Thread&, const Instruction&) {}
inline void branch(Thread& t, const Instruction& i) { t.next = static_cast<int>(i.offset); }
void branch_indexed(Thread& t, const Instruction& i);
void call(Thread& t, const Instruction& i);
inline void return_from(Thread& t, const Instruction&) { t.machine->leave(t); }
inline void exit_thread(Thread& t, const Instruction&) { t.state = State::Exited; }
void trap(Thread& t, const Instruction& i);
// What could not be decoded: an error only where it is executed.
void unsupported(Thread& t, const Instruction& i);

// slot: result, predicate, number of the barrier, number of threads (a slot that is not 0).
enum BarrierOperation : u8 { kBarrierSync, kBarrierCount, kBarrierAnd, kBarrierOr };
void wait_at_barrier(Thread& t, const Instruction& i);

void arrive_at_cluster(Thread& t, const Instruction& i);
void wait_for_cluster(Thread& t, const Instruction& i);

void wait_for_active_mask(Thread& t, const Instruction& i);

// slot[kMaskSlot]: the member mask.
enum WarpOperation : u8 {
  kWarpSync,
  kWarpShuffle,
  kWarpVote,
  kWarpMatch,
  kWarpReduce,
  kWarpElect,
};
enum ShuffleMode : u8 { kShuffleUp, kShuffleDown, kShuffleXor, kShuffleIndex };
enum VoteMode : u8 { kVoteAll, kVoteAny, kVoteUniform, kVoteBallot };
void wait_for_warp(Thread& t, const Instruction& i);

}  // namespace ptx
