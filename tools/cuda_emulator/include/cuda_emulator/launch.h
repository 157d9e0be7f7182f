// Launches from the host, and the hook that may run them instead of the emulator.
#pragma once

#include "cuda_emulator/cluster.h"
#include "cuda_emulator/order.h"
#include "cuda_emulator/runtime.h"
#include "cuda_emulator/scheduler.h"
#include "cuda_emulator/warp.h"

// A launch as the hook sees it.
struct EmulatorLaunch {
  const char* kernel;  // the mangled symbol
  unsigned grid[3], block[3];
  unsigned long long shared_bytes;  // the dynamic ones
  int arguments;
  const unsigned long long* sizes;  // of the arguments, in bytes
  const void* const* values;        // where they lie
  unsigned cluster[3];              // blocks of a cluster; (1, 1, 1): the launch has none
};

namespace cuda_emulator {

using Hook = int (*)(const EmulatorLaunch*);

inline std::atomic<Hook> hook{nullptr};
inline std::atomic<cudaStream_t> last_stream{nullptr};
inline std::mutex device_mutex;                  // one launch at a time
inline thread_local bool inside_launch = false;  // this thread of the host runs a kernel

struct Configuration {
  const char* name;
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  dim3 cluster = {1, 1, 1};
};

inline cudaError_t check_cluster(const Configuration& configuration) {
  const dim3 grid = configuration.grid, cluster = configuration.cluster;
  const uint64_t blocks = uint64_t{cluster.x} * cluster.y * cluster.z;
  if (blocks == 1) return cudaSuccess;
  if (capability() < kFirstWithClusters) return cudaErrorNotSupported;
  if (blocks == 0 || blocks > kMaxClusterBlocks) return cudaErrorInvalidClusterSize;
  const bool divides =
      grid.x % cluster.x == 0 && grid.y % cluster.y == 0 && grid.z % cluster.z == 0;
  return divides ? cudaSuccess : cudaErrorInvalidConfiguration;
}

// The error that a GPU would give for a launch before the kernel starts.
inline cudaError_t check_configuration(const Configuration& configuration, const void* kernel) {
  const dim3 grid = configuration.grid, block = configuration.block;
  const bool grid_fits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu &&
                         grid.y <= 65535 && grid.z <= 65535;
  const bool block_fits = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.x <= kMaxThreads &&
                          block.y <= kMaxThreads && block.z <= 64 &&
                          uint64_t{block.x} * block.y * block.z <= kMaxThreads;
  if (!grid_fits || !block_fits) return cudaErrorInvalidConfiguration;
  if (configuration.shared_bytes > shared_limit_of(kernel)) return cudaErrorInvalidValue;
  return check_cluster(configuration);
}

// Whether the hook has run the kernel.
inline bool ask_hook(Hook hook, const Configuration& configuration, const void* kernel,
                     const std::vector<unsigned long long>& sizes,
                     const std::vector<const void*>& values) {
  const char* const symbol = symbol_of(kernel);
  if (symbol == nullptr) {
    throw std::runtime_error(std::string("kernel ") + configuration.name +
                             ": has no symbol, which the hook of the emulator needs: is it "
                             "static, or in an unnamed namespace?");
  }
  const dim3 grid = configuration.grid, block = configuration.block;
  const dim3 cluster = configuration.cluster;
  const EmulatorLaunch launch = {symbol,
                                 {grid.x, grid.y, grid.z},
                                 {block.x, block.y, block.z},
                                 configuration.shared_bytes,
                                 static_cast<int>(sizes.size()),
                                 sizes.data(),
                                 values.data(),
                                 {cluster.x, cluster.y, cluster.z}};
  const int answer = hook(&launch);
  if (answer != 0 && answer != 1) {
    throw std::runtime_error(std::string("kernel ") + configuration.name +
                             ": the hook of the emulator failed: it returned " +
                             std::to_string(answer) + ", where 0 lets the emulator run the " +
                             "kernel and 1 says that the hook has run it");
  }
  return answer == 1;
}

// Marks the device as in use, even while an exception passes.
class DeviceInUse {
 public:
  DeviceInUse() : lock_(device_mutex) { inside_launch = true; }
  ~DeviceInUse() {
    scheduler.release();
    inside_launch = false;
  }
  DeviceInUse(const DeviceInUse&) = delete;
  DeviceInUse& operator=(const DeviceInUse&) = delete;

 private:
  std::lock_guard<std::mutex> lock_;
};

// The largest sum of static and dynamic shared memory: a kernel for which a limit was set may fill
// the device's, and no other.
inline size_t total_shared_limit(const void* kernel) {
  if (!asked_for_shared_memory(kernel)) return kDefaultSharedLimit;
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.shared_limit;
}

// The blocks of cluster `number` of a grid, in the order of their ranks.
inline std::vector<uint3> blocks_of_cluster(uint64_t number) {
  const dim3 size = cluster_size;
  const dim3 clusters(gridDim.x / size.x, gridDim.y / size.y, gridDim.z / size.z);
  const unsigned x = static_cast<unsigned>(number % clusters.x) * size.x;
  const unsigned y = static_cast<unsigned>(number / clusters.x % clusters.y) * size.y;
  const unsigned z = static_cast<unsigned>(number / (uint64_t{clusters.x} * clusters.y)) * size.z;
  std::vector<uint3> blocks;
  for (unsigned k = 0; k < size.z; ++k) {
    for (unsigned j = 0; j < size.y; ++j) {
      for (unsigned i = 0; i < size.x; ++i) blocks.push_back({x + i, y + j, z + k});
    }
  }
  return blocks;
}

// Runs all clusters, one after another. `invoke` calls the kernel for one thread.
inline void run_grid(const Configuration& configuration, const void* kernel,
                     void (*invoke)(const void*), const void* arguments) {
  const DeviceInUse in_use;
  const Unobserved unobserved;
  const size_t limit = total_shared_limit(kernel);
  running_kernel = {kernel, configuration.name};
  gridDim = configuration.grid;
  blockDim = configuration.block;
  cluster_size = configuration.cluster;
  scheduler.kernel = invoke;
  scheduler.arguments = arguments;
  const uint64_t clusters = uint64_t{gridDim.x} * gridDim.y * gridDim.z /
                            (uint64_t{cluster_size.x} * cluster_size.y * cluster_size.z);
  std::vector<uint64_t> shuffled;
  if (order.random()) {
    shuffled.resize(clusters);
    for (uint64_t i = 0; i < clusters; ++i) {
      const uint64_t other = order.draw(static_cast<uint32_t>(i + 1));
      shuffled[i] = shuffled[other];
      shuffled[other] = i;
    }
  }
  for (uint64_t i = 0; i < clusters; ++i) {
    const uint64_t number =
        order.random() ? shuffled[i] : (order.descending() ? clusters - 1 - i : i);
    scheduler.run(blocks_of_cluster(number), configuration.shared_bytes, limit);
  }
  if (kThreadSanitizer) tsan_acquire(&scheduler.done_clock);
}

template <typename... Parameters>
cudaError_t launch(const Configuration& configuration, void (*kernel)(Parameters...),
                   Parameters... values) {
  const void* address = reinterpret_cast<const void*>(kernel);
  if (inside_launch) fail("launches another kernel, which the emulator cannot");
  const cudaError_t error = check_configuration(configuration, address);
  if (error != cudaSuccess) return record(error);
  last_stream = configuration.stream;
  ++statistics.launches;
  if (const Hook installed = hook) {
    const std::vector<unsigned long long> sizes = {sizeof(Parameters)...};
    const std::vector<const void*> addresses = {&values...};
    if (ask_hook(installed, configuration, address, sizes, addresses)) return cudaSuccess;
  }
  using Arguments = std::tuple<void (*)(Parameters...), Parameters&...>;
  const Arguments arguments(kernel, values...);
  run_grid(
      configuration, address,
      [](const void* pointer) {
        std::apply([](auto function, auto&... each) { function(each...); },
                   *static_cast<const Arguments*>(pointer));
      },
      &arguments);
  return cudaSuccess;
}

// `kernel<<<grid, block, bytes, stream>>>(values)` becomes
// `Launch("kernel", grid, block, bytes, stream).of(kernel)(values)`.
class Launch {
 public:
  Launch(const char* name, dim3 grid, dim3 block, size_t shared_bytes = 0,
         cudaStream_t stream = nullptr)
      : configuration_{name, grid, block, shared_bytes, stream} {}

  template <typename... Parameters>
  auto of(void (*kernel)(Parameters...)) const {
    return [configuration = configuration_, kernel](Parameters... values) {
      static_cast<void>(launch<Parameters...>(configuration, kernel, values...));
    };
  }

 private:
  Configuration configuration_;
};

// At the beginning of a kernel with __launch_bounds__(threads, ...).
template <typename... Others>
void require_launch_bounds(unsigned threads, Others...) {
  const unsigned launched = blockDim.x * blockDim.y * blockDim.z;
  if (launched > threads) {
    fail("is launched with " + std::to_string(launched) + " threads, but __launch_bounds__ says " +
         std::to_string(threads));
  }
}

// The size of the clusters that a launch asks for.
inline dim3 cluster_of(const cudaLaunchConfig_t& configuration) {
  for (unsigned i = 0; i < configuration.numAttrs; ++i) {
    if (configuration.attrs[i].id != cudaLaunchAttributeClusterDimension) continue;
    const auto& size = configuration.attrs[i].val.clusterDim;
    return {size.x, size.y, size.z};
  }
  return {1, 1, 1};
}

template <typename... Parameters, typename... Values>
cudaError_t launch_configured(const cudaLaunchConfig_t* configuration,
                              void (*kernel)(Parameters...), Values&&... values) {
  return launch<Parameters...>(
      {"of cudaLaunchKernelEx", configuration->gridDim, configuration->blockDim,
       configuration->dynamicSmemBytes, configuration->stream, cluster_of(*configuration)},
      kernel, static_cast<Parameters>(values)...);
}

}  // namespace cuda_emulator

// The toolkit's own forgets the types of the parameters.
#define cudaLaunchKernelEx ::cuda_emulator::launch_configured

// Called at every launch, unless null. Returns 0: the emulator runs the kernel; 1: the hook has
// run it; anything else: the launch throws.
CUDA_EMULATOR_EXPORT void cuda_emulator_set_hook(int (*hook)(const EmulatorLaunch*)) {
  ::cuda_emulator::hook = hook;
}

// The stream of the last launch.
CUDA_EMULATOR_EXPORT unsigned long long cuda_emulator_last_stream() {
  return reinterpret_cast<uintptr_t>(::cuda_emulator::last_stream.load());
}
