// Stacks of CUDA threads, and how the processor changes from one to another.
#pragma once

namespace cuda_emulator {

// Saves what a function call must preserve, and continues what saved itself on the other stack.
__attribute__((naked, noinline)) CUDA_EMULATOR_UNCHECKED inline void switch_stack(void** /*saved*/,
                                                                                  void* /*next*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

// Instrumented frames are several times as large.
constexpr size_t kStackBytes = size_t{kAddressSanitizer ? 256 : 64} * 1024;
constexpr size_t kPageBytes = 4096;

// Stacks that no thread uses. A thread gets one when it starts and gives it back when it ends, so
// that a kernel without barriers needs a single one.
class StackPool {
 public:
  char* take() {
    // ThreadSanitizer would take two users of one stack for a race: new memory has no history.
    if (kThreadSanitizer) {
      void* stack = nullptr;
      if (posix_memalign(&stack, kPageBytes, kStackBytes) != 0) throw std::bad_alloc();
      return static_cast<char*>(stack);
    }
    if (free_.empty()) return map();
    char* stack = free_.back();
    free_.pop_back();
    return stack;
  }

  void give_back(char* stack) {
    if (kThreadSanitizer) {
      std::free(stack);
    } else {
      free_.push_back(stack);
    }
  }

 private:
  // The page below a stack is not accessible: an overflow ends the process at once.
  char* map() {
    void* pages = mmap(nullptr, kPageBytes + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    mprotect(pages, kPageBytes, PROT_NONE);
    return static_cast<char*>(pages) + kPageBytes;
  }

  std::vector<char*> free_;
};

// Where something that does not run will continue.
struct Context {
  void* stack_pointer = nullptr;
  const char* stack = nullptr;  // its lowest address
  size_t stack_bytes = 0;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#endif
#if defined(__SANITIZE_THREAD__)
  void* fiber = nullptr;
#endif
};

// Makes `context` begin with `entry`. Stacks start at different offsets within a page: otherwise
// the tops of all of them would compete for the same few sets of the cache.
CUDA_EMULATOR_UNCHECKED inline void prepare(Context& context, char* stack, unsigned number,
                                            void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, kStackBytes);  // what an earlier, abandoned user left
  context.fake_stack = nullptr;
#endif
  context.stack = stack;
  context.stack_bytes = kStackBytes;
  void** top = reinterpret_cast<void**>(stack + kStackBytes - (number * 320 & 8191));
  *--top = nullptr;  // the return address of `entry`, which does not return; aligns its frame
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // the registers that switch_stack restores
  context.stack_pointer = top;
}

// Leaves `from`, for ever if it is done, and continues `to`. Returns when `from` is continued.
CUDA_EMULATOR_UNCHECKED inline void switch_context(Context& from, Context& to,
                                                   [[maybe_unused]] bool done = false) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(done ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.fiber, __tsan_switch_to_fiber_no_sync);
#endif
  switch_stack(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The first thing that happens on a new stack. `launcher` learns its own bounds if it came from
// there.
CUDA_EMULATOR_UNCHECKED inline void begin_context([[maybe_unused]] Context& launcher) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (launcher.stack == nullptr) {
    launcher.stack = static_cast<const char*>(bottom);
    launcher.stack_bytes = bytes;
  }
#endif
}

inline StackPool stacks;

}  // namespace cuda_emulator
