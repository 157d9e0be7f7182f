// One block: its threads, which of them runs next, and the barrier.
#pragma once

#include "cuda_emulator/fault.h"
#include "cuda_emulator/fiber.h"
#include "cuda_emulator/order.h"
#include "cuda_emulator/sanitizers.h"
#include "cuda_emulator/shared_memory.h"

namespace cuda_emulator {

constexpr unsigned kMaxThreads = 1024;  // of a block
constexpr unsigned kWarpThreads = 32;

enum class State : uint8_t { kReady, kAtBarrier, kInWarp, kDone };

struct Thread {
  Context context;
  char* stack = nullptr;       // null: not started, or done
  const Site* site = nullptr;  // where it waits
  uint3 index = {};            // threadIdx
  uint16_t number = 0;         // in the block, x fastest
  State state = State::kReady;
  unsigned barriers = 0;  // that it has arrived at

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
// acquired. New for each block, since nothing orders blocks.
struct Clocks {
  uint64_t barrier[2];  // in turn: who wakes late must not see what others did since
  uint64_t warp[kMaxThreads / kWarpThreads][64];
};

class Block {
 public:
  // Runs all threads of a block of `blockDim`, once `kernel` and `arguments` are set.
  void run();

  // State of the running thread.
  Thread& current() { return *current_; }
  Warp& warp() { return warps_[current_->warp()]; }
  bool running() const { return current_ != nullptr; }

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
      if (lanes >> lane & 1) push(threads_[first + lane]);
    }
  }

  // Waits for all threads; returns how many of them gave a true predicate.
  unsigned barrier(const Site* site, bool predicate);

  void (*kernel)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
  Clocks* clocks = nullptr;  // null without ThreadSanitizer
  uint64_t done_clock = 0;   // what the launch waits for

 private:
  static void thread_entry();
  void prepare_threads();
  void create_fibers();
  void release_threads();
  Thread* finish_thread();
  Thread* next_ready();
  void open_barrier();
  void report_deadlock();

  void push(Thread& thread) {
    thread.state = State::kReady;
    ready_[ready_count_++] = thread.number;
  }

  __attribute__((always_inline)) void resume(Thread& thread) {
    current_ = &thread;
    threadIdx = thread.index;
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
    prepare(thread.context, thread.stack, thread.number, &thread_entry);
  }

  Thread threads_[kMaxThreads];
  Warp warps_[kMaxThreads / kWarpThreads];
  uint16_t ready_[kMaxThreads];  // a stack: what became ready last runs first
  unsigned ready_count_ = 0;
  unsigned count_ = 0, alive_ = 0;
  unsigned at_barrier_ = 0;
  const Site* barrier_site_ = nullptr;
  unsigned predicates_ = 0, predicates_before_ = 0;
  Thread* current_ = nullptr;
  Context launcher_;
  std::exception_ptr fault_;
};

inline Block block;

// Completes the operations at which all lanes have arrived; defined with them, in warp.h.
void complete_warp_operations(Warp& warp);

inline void Block::prepare_threads() {
  count_ = alive_ = blockDim.x * blockDim.y * blockDim.z;
  at_barrier_ = ready_count_ = 0;
  barrier_site_ = nullptr;
  predicates_ = 0;
  fault_ = nullptr;
  uint3 index = {0, 0, 0};
  for (unsigned number = 0; number < count_; ++number) {
    Thread& thread = threads_[number];
    thread.index = index;
    thread.number = static_cast<uint16_t>(number);
    thread.state = State::kReady;
    thread.stack = nullptr;
    thread.barriers = 0;
    // What is pushed last runs first.
    ready_[order.descending() ? number : count_ - 1 - number] = static_cast<uint16_t>(number);
    if (++index.x == blockDim.x) {
      index.x = 0;
      if (++index.y == blockDim.y) {
        index.y = 0;
        ++index.z;
      }
    }
  }
  ready_count_ = count_;
  for (unsigned first = 0; first < count_; first += kWarpThreads) {
    Warp& warp = warps_[first / kWarpThreads];
    warp.open = warp.operations_so_far = 0;
    const unsigned lanes = count_ - first;
    warp.exited = lanes < kWarpThreads ? ~0u << lanes : 0;
  }
}

// A fiber of ThreadSanitizer comes after all that its creator did: here what the host did before
// the launch. That of other blocks is unknown until the launch is over.
inline void Block::create_fibers() {
#if defined(__SANITIZE_THREAD__)
  clocks = new Clocks();
  launcher_.fiber = __tsan_get_current_fiber();
  for (unsigned i = 0; i < count_; ++i) {
    start(threads_[i]);
    threads_[i].context.fiber = __tsan_create_fiber(0);
  }
#endif
}

// All threads have ended, or a fault has stopped some in the middle. ThreadSanitizer cannot end
// those, and keeps them.
inline void Block::release_threads() {
  current_ = nullptr;
  for (unsigned i = 0; i < count_; ++i) {
    Thread& thread = threads_[i];
#if defined(__SANITIZE_THREAD__)
    if (fault_ != nullptr) continue;
    __tsan_destroy_fiber(thread.context.fiber);
#endif
    if (thread.stack != nullptr) stacks.give_back(std::exchange(thread.stack, nullptr));
  }
  delete clocks;
  clocks = nullptr;
}

CUDA_EMULATOR_UNCHECKED inline void Block::run() {
  prepare_threads();
  create_fibers();
  launcher_.stack = nullptr;  // the first fiber says where the stack of this one is
  Thread* first = next_ready();
  if (!kThreadSanitizer) start(*first);
  resume(*first);
  switch_context(launcher_, first->context);
  release_threads();
  statistics.threads += count_;
  if (fault_ != nullptr) {
    tsan_acquire(&done_clock);
    std::rethrow_exception(std::exchange(fault_, nullptr));
  }
}

// Runs one thread after another, as long as the next one has no stack of its own.
CUDA_EMULATOR_UNCHECKED inline void Block::thread_entry() {
  begin_context(block.launcher_);
  for (;;) {
    Thread& self = *block.current_;
    try {
      block.kernel(block.arguments);
    } catch (...) {
      const Unobserved unobserved;
      if (block.fault_ == nullptr) block.fault_ = std::current_exception();
    }
    Thread* next = block.finish_thread();
    if (!kThreadSanitizer && next != nullptr && next->stack == nullptr) {
      next->stack = std::exchange(self.stack, nullptr);
      next->context = self.context;  // the bounds of the stack
      block.resume(*next);
      continue;
    }
    if (!kThreadSanitizer) stacks.give_back(std::exchange(self.stack, nullptr));
    block.leave(self, next, true);
    std::abort();  // nothing continues a thread that is done
  }
}

inline Thread* Block::finish_thread() {
  const Unobserved unobserved;
  if (kThreadSanitizer) {
    // To end is to arrive at every barrier that follows.
    tsan_release(&clocks->barrier[current_->barriers % 2]);
    tsan_release(&done_clock);
  }
  current_->state = State::kDone;
  --alive_;
  warp().exited |= 1u << current_->lane();
  if (warp().open != 0) complete_warp_operations(warp());
  return next_ready();
}

// Null when the block is over.
inline Thread* Block::next_ready() {
  if (fault_ != nullptr) return nullptr;
  if (ready_count_ == 0) {
    if (alive_ == 0) return nullptr;
    if (at_barrier_ != alive_) {
      report_deadlock();
      return nullptr;
    }
    open_barrier();
  }
  if (order.random()) std::swap(ready_[order.draw(ready_count_)], ready_[ready_count_ - 1]);
  return &threads_[ready_[--ready_count_]];
}

inline void Block::open_barrier() {
  ++statistics.barriers;
  at_barrier_ = 0;
  barrier_site_ = nullptr;
  predicates_before_ = std::exchange(predicates_, 0);
  for (unsigned i = 0; i < count_; ++i) {
    Thread& thread = threads_[order.descending() ? i : count_ - 1 - i];
    if (thread.state == State::kAtBarrier) push(thread);
  }
}

inline unsigned Block::barrier(const Site* site, bool predicate) {
  const Unobserved unobserved;
  if (barrier_site_ != nullptr && barrier_site_ != site) {
    fail("threads of one block wait in different barriers: " + to_text(*site) + ", others in " +
         to_text(*barrier_site_));
  }
  barrier_site_ = site;
  ++at_barrier_;
  predicates_ += predicate;
  void* clock = kThreadSanitizer ? &clocks->barrier[current_->barriers++ % 2] : nullptr;
  tsan_release(clock);
  mark_waiting(State::kAtBarrier, site);
  yield();
  tsan_acquire(clock);
  return predicates_before_;
}

inline void Block::report_deadlock() {
  std::string message = "deadlock:";
  const Site* previous = nullptr;
  int named = 0;
  for (unsigned i = 0; i < count_; ++i) {
    const Thread& thread = threads_[i];
    if (thread.state == State::kDone || thread.site == previous) continue;
    previous = thread.site;
    if (++named > 6) {
      message += " ...";
      break;
    }
    message += (named > 1 ? "; thread " : " thread ") + to_text(thread.index) + " waits in " +
               to_text(*thread.site);
  }
  fault_ = std::make_exception_ptr(block_fault(message));
}

}  // namespace cuda_emulator

#define __syncthreads() \
  static_cast<void>(::cuda_emulator::block.barrier(CUDA_EMULATOR_SITE("__syncthreads"), false))
#define __syncthreads_count(predicate) \
  static_cast<int>(                    \
      ::cuda_emulator::block.barrier(CUDA_EMULATOR_SITE("__syncthreads_count"), (predicate) != 0))
#define __syncthreads_or(predicate)                                                       \
  static_cast<int>(::cuda_emulator::block.barrier(CUDA_EMULATOR_SITE("__syncthreads_or"), \
                                                  (predicate) != 0) != 0)
#define __syncthreads_and(predicate)                                                       \
  static_cast<int>(::cuda_emulator::block.barrier(CUDA_EMULATOR_SITE("__syncthreads_and"), \
                                                  (predicate) == 0) == 0)
