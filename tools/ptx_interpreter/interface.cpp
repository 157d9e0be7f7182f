// The C interface, which module.py calls.
//
// Functions that can fail say so by their result; then answer() is the error, else it is JSON.
#include <algorithm>
#include <cfenv>
#include <exception>
#include <memory>

#include "machine.h"
#include "module.h"
#include "report.h"

namespace {

using ptx::string;
using ptx::u32;
using ptx::u64;
using ptx::u8;

// Allocations of a GPU begin at multiples of 256. Here there are unused bytes between them.
constexpr u64 kAllocation = 256;

thread_local string answer;

void place_regions(ptx::Machine& machine) {
  std::sort(machine.regions.begin(), machine.regions.end(),
            [](const ptx::Region& a, const ptx::Region& b) { return a.base < b.base; });
  u64 next = kAllocation;
  for (ptx::Region& region : machine.regions) {
    region.device += next;
    next = ptx::round_up(region.device + region.size + 1, kAllocation) + kAllocation;
    region.touched.assign(region.size / ptx::kSector + 2, 0);
  }
}

}  // namespace

#define PTX_EXPORT extern "C" __attribute__((visibility("default")))

PTX_EXPORT const char* ptx_answer() { return answer.c_str(); }

PTX_EXPORT void* ptx_load(const char* text) {
  try {
    auto module = std::make_unique<ptx::Module>(text);
    answer = ptx::description_of(*module);
    return module.release();
  } catch (const std::exception& error) {
    answer = error.what();
    return nullptr;
  }
}

PTX_EXPORT void ptx_free(void* module) { delete static_cast<ptx::Module*>(module); }

// The address of a variable, or 0.
PTX_EXPORT u64 ptx_symbol(void* module, const char* name, u64* size) {
  const auto& variables = static_cast<ptx::Module*>(module)->variables;
  const auto variable = variables.find(name);
  if (variable == variables.end()) return 0;
  *size = variable->second.size;
  return variable->second.address;
}

// Memory that a kernel may access.
struct PtxBuffer {
  u64 address, size;
  u64 offset;  // from the start of its allocation
  int writable;
  const char* name;
};

struct PtxLaunch {
  const char* kernel;
  u32 grid[3], block[3], cluster[3];
  u32 dynamic_shared;
  int order, statistics;
  u64 max_steps;
  const u8* parameters;
  u64 parameter_bytes;
  const PtxBuffer* buffers;
  u64 buffer_count;
};

// 0: answer() holds the statistics; else the error.
PTX_EXPORT int ptx_launch(void* handle, const PtxLaunch* launch) {
  ptx::Module& module = *static_cast<ptx::Module*>(handle);
  try {
    const auto kernel = module.kernels.find(launch->kernel);
    if (kernel == module.kernels.end()) {
      throw std::runtime_error("no kernel " + string(launch->kernel));
    }
    ptx::Machine machine;
    machine.kernel = launch->kernel;
    machine.program = &kernel->second.program;
    machine.lines = &module.lines;
    std::copy_n(launch->grid, 3, machine.grid);
    std::copy_n(launch->block, 3, machine.block);
    std::copy_n(launch->cluster, 3, machine.cluster);
    machine.dynamic_shared = launch->dynamic_shared;
    machine.order = launch->order;
    machine.statistics = launch->statistics;
    machine.max_steps = launch->max_steps;
    machine.parameters.assign(launch->parameters, launch->parameters + launch->parameter_bytes);
    machine.shared_bytes = machine.program->static_shared + launch->dynamic_shared;
    for (u64 k = 0; k < launch->buffer_count; ++k) {
      const PtxBuffer& buffer = launch->buffers[k];
      machine.regions.push_back(
          {buffer.address, buffer.size, buffer.offset, buffer.writable != 0, false, buffer.name});
    }
    for (const auto& [name, variable] : module.variables) {
      if (variable.space == ptx::Space::Shared) continue;
      const bool constant = variable.space == ptx::Space::Constant;
      machine.regions.push_back({variable.address, variable.size, 0, !constant, constant, name});
    }
    place_regions(machine);
    machine.launch();
    answer = ptx::statistics_of(machine);
    return 0;
  } catch (const std::exception& error) {
    answer = error.what();
    std::fesetround(FE_TONEAREST);  // the error may have come while it was another
    return 1;
  }
}
