// What ThreadSanitizer takes for the threads of a launch.
#pragma once

#include "cuda_emulator/fiber.h"

namespace cuda_emulator {

#if defined(__SANITIZE_THREAD__)

// Fibers, and a stack for each, in a few sets, each of which is enough for a cluster. Clusters take
// turns with them, because it takes a millisecond to make a fiber, and a launch may have hundreds
// of thousands of threads. What a fiber does for one cluster comes before what it does for the next
// one of its set. So races between these two stay unseen, but not those of any other two: between
// neighbors, for example.
//
// A set lives until the launch is over. ThreadSanitizer gives the numbers of fibers that have ended
// to new ones, and takes what two of one number do for the work of one thread.
class FiberSets {
 public:
  struct Fiber {
    void* fiber;
    char* stack;
  };

  // The set of the next cluster, which has so many threads.
  std::vector<Fiber>& next(size_t threads) {
    const size_t count = std::max(kFewest, kMostFibers / threads);
    if (sets_.size() < count) {
      turn_ = sets_.size();
      sets_.emplace_back();
      for (size_t i = 0; i < threads; ++i) {
        sets_.back().push_back({__tsan_create_fiber(0), stacks.take()});
      }
    } else {
      turn_ = (turn_ + 1) % count;
    }
    return sets_[turn_];
  }

  // After a launch: the next one has other numbers of threads, and comes after what the host did.
  void end() {
    for (const std::vector<Fiber>& set : sets_) {
      for (const Fiber& fiber : set) {
        __tsan_destroy_fiber(fiber.fiber);
        stacks.give_back(fiber.stack);
      }
    }
    sets_.clear();
  }

  // After a fault, which stops threads in the middle: ThreadSanitizer cannot end those.
  void abandon() { sets_.clear(); }

 private:
  static constexpr size_t kFewest = 2;
  static constexpr size_t kMostFibers = 3072;  // ThreadSanitizer can count to 8128

  std::vector<std::vector<Fiber>> sets_;
  size_t turn_ = 0;  // the number of the set that is in use
};

inline FiberSets fiber_sets;

#endif

}  // namespace cuda_emulator
