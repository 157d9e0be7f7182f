// Copies to shared memory that arrive later: at the latest when the thread waits for them.
//
// Until then the memory holds what it held before, so that a missing wait gives wrong values. In
// random orders some copies arrive at once, which a GPU may do.
#pragma once

#include "cuda_emulator/scheduler.h"

namespace cuda_emulator {

inline void perform(const AsyncCopy& copy) {
  std::memcpy(copy.to, copy.from, copy.bytes - copy.zeros);
  std::memset(static_cast<char*>(copy.to) + copy.bytes - copy.zeros, 0, copy.zeros);
}

inline void copy_async(void* to, const void* from, size_t bytes, size_t zeros) {
  if ((bytes != 4 && bytes != 8 && bytes != 16) || zeros > bytes) {
    fail("__pipeline_memcpy_async: expected 4, 8 or 16 bytes, got " + std::to_string(bytes) +
         " with " + std::to_string(zeros) + " zeros");
  }
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    fail("__pipeline_memcpy_async: addresses are not aligned to " + std::to_string(bytes) +
         " bytes");
  }
  bool at_once = false;
  const AsyncCopy copy = [&] {
    const Unobserved unobserved;
    Thread& thread = scheduler.current();
    const AsyncCopy begun = {to, from, static_cast<unsigned>(bytes), static_cast<unsigned>(zeros),
                             thread.batches};
    at_once = order.random() && order.draw(2) == 0;
    if (!at_once) thread.copies.push_back(begun);
    return begun;
  }();
  if (at_once) perform(copy);
}

// Sanitizers see the copies, as accesses of the thread that waits for them, and not the list.
inline void complete_copies(unsigned but) {
  for (size_t next = 0;; ++next) {
    AsyncCopy copy{};
    {
      const Unobserved unobserved;
      Thread& thread = scheduler.current();
      auto& copies = thread.copies;
      while (next < copies.size() && copies[next].batch + but >= thread.batches) ++next;
      if (next >= copies.size()) {
        const auto arrived = [&](const AsyncCopy& each) {
          return each.batch + but < thread.batches;
        };
        copies.erase(std::remove_if(copies.begin(), copies.end(), arrived), copies.end());
        return;
      }
      copy = copies[next];
    }
    perform(copy);
  }
}

}  // namespace cuda_emulator

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
  ::cuda_emulator::copy_async(to, from, bytes, zeros);
}
inline void __pipeline_commit() {
  const ::cuda_emulator::Unobserved unobserved;
  ++::cuda_emulator::scheduler.current().batches;
}
inline void __pipeline_wait_prior(size_t but) {
  ::cuda_emulator::complete_copies(static_cast<unsigned>(but));
}
