// Tells AddressSanitizer and ThreadSanitizer about fibers.
//
// AddressSanitizer has to know which stack is in use. To ThreadSanitizer every CUDA thread is a
// thread of its own, barriers are what orders them, and the emulator's own state is invisible.
#pragma once

#if defined(__SANITIZE_THREAD__)
extern "C" {
// Functions of ThreadSanitizer's runtime, which no header declares.
#pragma GCC visibility push(default)
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
#pragma GCC visibility pop
}
#endif

// For functions in which a fiber begins or the stack changes: ThreadSanitizer's record of calls
// would come out of step, and AddressSanitizer would see a frame that never ends.
#define CUDA_EMULATOR_UNCHECKED __attribute__((no_sanitize("thread", "address", "undefined")))

namespace cuda_emulator {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
constexpr bool kSanitized = kAddressSanitizer || kThreadSanitizer;

// While one of these lives, ThreadSanitizer does not see what this CUDA thread reads and writes.
struct Unobserved {
#if defined(__SANITIZE_THREAD__)
  Unobserved() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unobserved() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Unobserved() {}
#endif
  Unobserved(const Unobserved&) = delete;
  Unobserved& operator=(const Unobserved&) = delete;
};

// Everything before tsan_release(clock) comes before everything after a later
// tsan_acquire(clock).
inline void tsan_release([[maybe_unused]] void* clock) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(clock);
#endif
}

inline void tsan_acquire([[maybe_unused]] void* clock) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(clock);
#endif
}

}  // namespace cuda_emulator
