// The blocks that run at the same time: one, or those of a cluster. Which thread runs next, and the
// barrier of a block.
#pragma once

#include "cuda_emulator/block.h"
#include "cuda_emulator/fiber_sets.h"

namespace cuda_emulator {

class Scheduler {
 public:
  // Runs all threads of a cluster, whose blocks lie at `indices`, once `kernel` and `arguments` are
  // set. Each has `dynamic_bytes` of shared memory, and `limit` bounds all of it.
  void run(const std::vector<uint3>& indices, size_t dynamic_bytes, size_t limit);
  // What a launch has left, after a fault too.
  void release();

  // State of the running thread.
  Thread& current() { return *current_; }
  Block& block() { return *current_->block; }
  Warp& warp() { return block().warps[current_->warp()]; }
  unsigned blocks() const { return size_; }
  Block& block_of_rank(unsigned rank) { return blocks_[rank]; }

  // The current thread waits from here on, and may be woken.
  void mark_waiting(State state, const Site* site) {
    current_->state = state;
    current_->site = site;
  }

  // Lets others run until the current thread is ready and its turn comes.
  void yield() {
    if (kThreadSanitizer) tsan_release(&done_clock);  // a fault elsewhere may end the launch
    Thread& self = *current_;
    Thread* next = next_ready();
    if (next != &self) leave(self, next);
  }

  // If the order is random, lets others run now and then.
  void preempt() {
    if (!order.random() || order.draw(8) != 0) return;
    push(*current_);
    yield();
  }

  // The threads of the current warp in `lanes` can go on.
  void wake(unsigned lanes) {
    const unsigned first = current_->warp() * kWarpThreads;
    for (unsigned i = 0; i < kWarpThreads; ++i) {
      const unsigned lane = order.descending() ? i : kWarpThreads - 1 - i;
      if (lanes >> lane & 1) push(block().threads[first + lane]);
    }
  }

  // Waits for all threads of the block; returns how many of them gave a true predicate.
  unsigned barrier(const Site* site, bool predicate);
  // The two halves of a barrier of the cluster: see cluster.h.
  void arrive_at_cluster(const Site* site);
  void wait_for_cluster(const Site* site);

  void (*kernel)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
  uint64_t done_clock = 0;  // what the launch waits for

 private:
  static void thread_entry();
  void* cluster_clock(unsigned barrier) { return &blocks_[0].clocks->cluster[barrier % 2]; }
  void push_all(State state);
  void take_fibers();
  void release_threads();
  Thread* finish_thread();
  void finish_block(Block& block);
  Thread* next_ready();
  void open_barriers();
  void report_deadlock();

  void push(Thread& thread) {
    thread.state = State::kReady;
    ready_.push_back(&thread);
  }

  // Calls function(thread) for the threads of `block`, in the order in which they are to be pushed:
  // what is pushed last runs first.
  template <typename Function>
  void for_threads(Block& block, Function function) {
    for (unsigned i = 0; i < block.count; ++i) {
      function(block.threads[order.descending() ? i : block.count - 1 - i]);
    }
  }

  template <typename Function>
  void for_blocks(Function function) {
    for (unsigned i = 0; i < size_; ++i) {
      function(blocks_[order.descending() ? i : size_ - 1 - i]);
    }
  }

  __attribute__((always_inline)) void resume(Thread& thread) {
    current_ = &thread;
    threadIdx = thread.index;
    blockIdx = thread.block->index;
    shared_memory = &thread.block->memory;
    ++statistics.switches;
  }

  // Continues another thread or, if there is none, the launch.
  CUDA_EMULATOR_UNCHECKED void leave(Thread& self, Thread* next, bool done = false) {
    if (next == nullptr) {
      switch_context(self.context, launcher_, done);
      return;
    }
    if (!kThreadSanitizer) start(*next);
    resume(*next);
    switch_context(self.context, next->context, done);
  }

  void start(Thread& thread) {
    if (thread.stack != nullptr) return;
    thread.stack = stacks.take();
    cuda_emulator::prepare(thread.context, thread.stack, thread.number, &thread_entry);
  }

  Block blocks_[kMaxClusterBlocks];
  unsigned size_ = 0;
  std::vector<Thread*> ready_;  // a stack: what became ready last runs first
  unsigned alive_ = 0;
  unsigned cluster_arrived_ = 0;   // threads, at the barrier of the cluster that opens next
  unsigned cluster_barriers_ = 0;  // that have opened
  Thread* current_ = nullptr;
  Context launcher_;
  std::exception_ptr fault_;
};

inline Scheduler scheduler;

// Completes the operations at which all lanes have arrived; defined with them, in warp.h.
void complete_warp_operations(Warp& warp);

// Those that are ready, and those in `state`.
inline void Scheduler::push_all(State state) {
  for_blocks([&](Block& block) {
    for_threads(block, [&](Thread& thread) {
      if (thread.state == state) push(thread);
    });
  });
}

// A fiber of ThreadSanitizer comes after all that its creator did: here what the host did before
// the launch. That of other blocks is unknown until the launch is over.
inline void Scheduler::take_fibers() {
#if defined(__SANITIZE_THREAD__)
  launcher_.fiber = __tsan_get_current_fiber();
  auto fiber = fiber_sets.next(alive_).begin();
  for_blocks([&](Block& block) {
    block.clocks = new Clocks();
    for_threads(block, [&](Thread& thread) {
      thread.stack = fiber->stack;
      thread.context.fiber = fiber->fiber;
      cuda_emulator::prepare(thread.context, thread.stack, thread.number, &thread_entry);
      ++fiber;
    });
  });
#endif
}

// All threads have ended, or a fault has stopped some in the middle.
inline void Scheduler::release_threads() {
  current_ = nullptr;
  for_blocks([&](Block& block) {
    for_threads(block, [&](Thread& thread) {
      char* const stack = std::exchange(thread.stack, nullptr);
      if (!kThreadSanitizer && stack != nullptr) stacks.give_back(stack);
    });
    delete std::exchange(block.clocks, nullptr);
  });
#if defined(__SANITIZE_THREAD__)
  if (fault_ != nullptr) fiber_sets.abandon();
#endif
}

inline void Scheduler::release() {
  for (Block& block : blocks_) block.memory.release();
#if defined(__SANITIZE_THREAD__)
  fiber_sets.end();
#endif
}

CUDA_EMULATOR_UNCHECKED inline void Scheduler::run(const std::vector<uint3>& indices,
                                                   size_t dynamic_bytes, size_t limit) {
  size_ = static_cast<unsigned>(indices.size());
  alive_ = cluster_arrived_ = cluster_barriers_ = 0;
  fault_ = nullptr;
  ready_.clear();
  for (unsigned rank = 0; rank < size_; ++rank) {
    blocks_[rank].prepare(indices[rank], rank);
    alive_ += blocks_[rank].count;
    blockIdx = indices[rank];  // for a fault
    blocks_[rank].memory.begin_block(dynamic_bytes, limit);
  }
  push_all(State::kReady);
  take_fibers();
  launcher_.stack = nullptr;  // the first fiber says where the stack of this one is
  Thread* first = next_ready();
  if (!kThreadSanitizer) start(*first);
  resume(*first);
  switch_context(launcher_, first->context);
  release_threads();
  for (unsigned rank = 0; rank < size_; ++rank) statistics.threads += blocks_[rank].count;
  if (fault_ != nullptr) {
    tsan_acquire(&done_clock);
    std::rethrow_exception(std::exchange(fault_, nullptr));
  }
  for (unsigned rank = 0; rank < size_; ++rank) {
    blockIdx = blocks_[rank].index;
    blocks_[rank].memory.end_cluster();
  }
}

// Runs one thread after another, as long as the next one has no stack of its own.
CUDA_EMULATOR_UNCHECKED inline void Scheduler::thread_entry() {
  begin_context(scheduler.launcher_);
  for (;;) {
    Thread& self = *scheduler.current_;
    try {
      scheduler.kernel(scheduler.arguments);
    } catch (...) {
      const Unobserved unobserved;
      if (scheduler.fault_ == nullptr) scheduler.fault_ = std::current_exception();
    }
    Thread* next = scheduler.finish_thread();
    if (!kThreadSanitizer && next != nullptr && next->stack == nullptr) {
      next->stack = std::exchange(self.stack, nullptr);
      next->context = self.context;  // the bounds of the stack
      scheduler.resume(*next);
      continue;
    }
    if (!kThreadSanitizer) stacks.give_back(std::exchange(self.stack, nullptr));
    scheduler.leave(self, next, true);
    std::abort();  // nothing continues a thread that is done
  }
}

inline Thread* Scheduler::finish_thread() {
  const Unobserved unobserved;
  Thread& self = *current_;
  self.copies.clear();  // nobody has waited for them
  if (kThreadSanitizer) {
    // To end is to arrive at every barrier of the block that follows.
    tsan_release(&block().clocks->barrier[self.barriers % 2]);
    tsan_release(&done_clock);
  }
  self.state = State::kDone;
  --alive_;
  if (self.cluster_arrivals > cluster_barriers_) --cluster_arrived_;
  warp().exited |= 1u << self.lane();
  if (warp().open != 0) complete_warp_operations(warp());
  if (--block().alive == 0) finish_block(block());
  return next_ready();
}

inline void Scheduler::finish_block(Block& block) {
  try {
    block.memory.end_block();
  } catch (...) {
    if (fault_ == nullptr) fault_ = std::current_exception();
  }
}

// Null when all blocks are over.
inline Thread* Scheduler::next_ready() {
  if (fault_ != nullptr) return nullptr;
  open_barriers();
  if (ready_.empty()) {
    if (alive_ != 0) report_deadlock();
    return nullptr;
  }
  if (order.random()) {
    std::swap(ready_[order.draw(static_cast<uint32_t>(ready_.size()))], ready_.back());
  }
  Thread* next = ready_.back();
  ready_.pop_back();
  return next;
}

// Those at which all threads that are alive have arrived.
inline void Scheduler::open_barriers() {
  for_blocks([&](Block& block) {
    if (block.alive == 0 || block.at_barrier != block.alive) return;
    ++statistics.barriers;
    block.at_barrier = 0;
    block.barrier_site = nullptr;
    block.predicates_before = std::exchange(block.predicates, 0);
    for_threads(block, [&](Thread& thread) {
      if (thread.state == State::kAtBarrier) push(thread);
    });
  });
  if (alive_ != 0 && cluster_arrived_ == alive_) {
    ++cluster_barriers_;
    cluster_arrived_ = 0;
    push_all(State::kAtClusterBarrier);
  }
}

inline unsigned Scheduler::barrier(const Site* site, bool predicate) {
  const Unobserved unobserved;
  Block& mine = block();
  if (mine.barrier_site != nullptr && mine.barrier_site != site) {
    fail("threads of one block wait in different barriers: " + to_text(*site) + ", others in " +
         to_text(*mine.barrier_site));
  }
  mine.barrier_site = site;
  ++mine.at_barrier;
  mine.predicates += predicate;
  void* clock = kThreadSanitizer ? &mine.clocks->barrier[current_->barriers++ % 2] : nullptr;
  tsan_release(clock);
  mark_waiting(State::kAtBarrier, site);
  yield();
  tsan_acquire(clock);
  return mine.predicates_before;
}

inline void Scheduler::arrive_at_cluster(const Site* site) {
  const Unobserved unobserved;
  Thread& self = *current_;
  if (self.cluster_arrivals != self.cluster_waits) {
    fail(to_text(*site) + ": arrives at a barrier of the cluster again, before it has waited");
  }
  if (kThreadSanitizer) tsan_release(cluster_clock(self.cluster_arrivals));
  ++self.cluster_arrivals;
  ++cluster_arrived_;
  preempt();
}

inline void Scheduler::wait_for_cluster(const Site* site) {
  const Unobserved unobserved;
  Thread& self = *current_;
  if (self.cluster_arrivals != self.cluster_waits + 1) {
    fail(to_text(*site) + ": waits for a barrier of the cluster at which it has not arrived");
  }
  open_barriers();
  if (cluster_barriers_ < self.cluster_arrivals) {
    mark_waiting(State::kAtClusterBarrier, site);
    yield();
  }
  if (kThreadSanitizer) tsan_acquire(cluster_clock(self.cluster_waits));
  ++self.cluster_waits;
}

inline void Scheduler::report_deadlock() {
  std::string message = "deadlock:";
  const Site* previous = nullptr;
  int named = 0;
  for (unsigned rank = 0; rank < size_; ++rank) {
    const Block& block = blocks_[rank];
    for (unsigned i = 0; i < block.count && named <= 6; ++i) {
      const Thread& thread = block.threads[i];
      if (thread.state == State::kDone || thread.site == previous) continue;
      previous = thread.site;
      if (++named > 6) {
        message += " ...";
        break;
      }
      message += (named > 1 ? "; thread " : " thread ") + to_text(thread.index);
      if (size_ > 1) message += " of block " + to_text(block.index);
      message += " waits in " + to_text(*thread.site);
    }
  }
  fault_ = std::make_exception_ptr(block_fault(message));
}

}  // namespace cuda_emulator

#define __syncthreads() \
  static_cast<void>(::cuda_emulator::scheduler.barrier(CUDA_EMULATOR_SITE("__syncthreads"), false))
#define __syncthreads_count(predicate)                                                           \
  static_cast<int>(::cuda_emulator::scheduler.barrier(CUDA_EMULATOR_SITE("__syncthreads_count"), \
                                                      (predicate) != 0))
#define __syncthreads_or(predicate)                                                           \
  static_cast<int>(::cuda_emulator::scheduler.barrier(CUDA_EMULATOR_SITE("__syncthreads_or"), \
                                                      (predicate) != 0) != 0)
#define __syncthreads_and(predicate)                                                           \
  static_cast<int>(::cuda_emulator::scheduler.barrier(CUDA_EMULATOR_SITE("__syncthreads_and"), \
                                                      (predicate) == 0) == 0)
