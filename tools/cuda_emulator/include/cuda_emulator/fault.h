// Faults: things that a GPU forbids, reported with block, thread and line.
#pragma once

namespace cuda_emulator {

// One place in the source that waits for other threads. Its address is its identity: it differs
// between instances of a template, and is the same in every file that includes a header.
struct Site {
  const char* what;
  const char* file;
  int line;
};

#define CUDA_EMULATOR_SITE(what)                                           \
  ([]() __attribute__((always_inline)) -> const ::cuda_emulator::Site* {   \
    static constexpr ::cuda_emulator::Site site{what, __FILE__, __LINE__}; \
    return &site;                                                          \
  }())

inline std::string to_text(const Site& site) {
  return std::string(site.what) + " at " + site.file + ":" + std::to_string(site.line);
}

inline std::string to_text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

inline std::string to_hexadecimal(unsigned mask) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

// The kernel of the launch under way: its function, and how the launch names it.
struct Kernel {
  const void* address;
  const char* name;
};

inline Kernel running_kernel = {nullptr, ""};

// The symbol of a kernel, null if it has none.
inline const char* symbol_of(const void* kernel) {
  Dl_info info;
  if (dladdr(kernel, &info) == 0 || info.dli_saddr != kernel) return nullptr;
  return info.dli_sname;
}

// The kernel that runs, with its template arguments, and the block.
inline std::string describe_block() {
  std::string name = running_kernel.name;
  if (const char* symbol = symbol_of(running_kernel.address)) {
    int status = 0;
    char* const readable = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
    name = status == 0 ? readable : symbol;
    std::free(readable);
  }
  return "kernel " + name + ", block " + to_text(blockIdx);
}

// For faults of a whole block.
inline std::runtime_error block_fault(const std::string& message) {
  return std::runtime_error(describe_block() + ": " + message);
}

// For faults of the thread that runs: the exception ends the launch.
[[noreturn]] inline void fail(const std::string& message) {
  throw std::runtime_error(describe_block() + ", thread " + to_text(threadIdx) + ": " + message);
}

}  // namespace cuda_emulator
