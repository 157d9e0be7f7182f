// The order in which threads and blocks run, and the counts of what was run.
#pragma once

#define CUDA_EMULATOR_EXPORT extern "C" __attribute__((visibility("default"), used)) inline

namespace cuda_emulator {

// Decides which of the threads that could run runs next. A kernel whose result depends on it has a
// race.
class Order {
 public:
  Order() {
    const char* seed = std::getenv("CUDAEMU_SEED");
    set(seed == nullptr ? 0 : std::strtoull(seed, nullptr, 0));
  }

  void set(uint64_t seed) {
    seed_ = seed;
    state_ = seed * 0x9E3779B97F4A7C15u | 1;  // xorshift must not start at 0
  }

  bool descending() const { return seed_ == 1; }
  bool random() const { return seed_ >= 2; }

  // A random number below `count`.
  uint32_t draw(uint32_t count) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<uint32_t>((state_ >> 32) * count >> 32);
  }

 private:
  uint64_t seed_ = 0;
  uint64_t state_ = 1;
};

struct Statistics {
  uint64_t threads = 0, switches = 0, barriers = 0;
  std::atomic<uint64_t> launches{0};  // counted before the device is taken
};

inline Order order;
inline Statistics statistics;

}  // namespace cuda_emulator

// 0: ascending, 1: descending, 2 and more: random with that seed. Overrides CUDAEMU_SEED.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_order(unsigned long long seed) {
  ::cuda_emulator::order.set(seed);
}

// Kernel threads run, launches, switches between fibers and barriers since the module was loaded.
CUDA_EMULATOR_EXPORT void cuda_emulator_statistics(unsigned long long out[4]) {
  const auto& counts = ::cuda_emulator::statistics;
  out[0] = counts.threads;
  out[1] = counts.launches;
  out[2] = counts.switches;
  out[3] = counts.barriers;
}
