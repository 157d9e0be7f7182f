// Every access to memory: its address, whether it is allowed, and what is counted.
#include <algorithm>
#include <cstdio>

#include "machine.h"

namespace ptx {

Region* Machine::region_of(u64 address, unsigned bytes) {
  const auto holds = [&](const Region& region) {
    return address >= region.base && address - region.base + bytes <= region.size;
  };
  if (last_region < regions.size() && holds(regions[last_region])) return &regions[last_region];
  auto after = std::upper_bound(regions.begin(), regions.end(), address,
                                [](u64 x, const Region& region) { return x < region.base; });
  if (after == regions.begin() || !holds(*--after)) return nullptr;
  last_region = after - regions.begin();
  return &*after;
}

void Machine::fail_access(const Thread& thread, const Instruction& instruction, const char* what,
                          u64 address, unsigned bytes, Access kind) const {
  static const char* kinds[] = {"load", "store", "atomic"};
  char text[200];
  std::snprintf(text, sizeof text, "%s: %u-byte %s at 0x%llx", what, bytes,
                kinds[static_cast<int>(kind)], static_cast<unsigned long long>(address));
  string message = text;
  const bool global = window_of(address) == kHost && instruction.space != Space::Shared &&
                      instruction.space != Space::Cluster && instruction.space != Space::Local;
  constexpr u64 near = 4096;
  for (const Region& region : regions) {
    if (!global || address + near < region.base || address >= region.base + region.size + near) {
      continue;
    }
    message += " (" + region.name + " + " +
               std::to_string(static_cast<s64>(address - region.base)) + " of " +
               std::to_string(region.size) + " bytes)";
  }
  fail(thread, instruction, message);
}

u8* Machine::access_global(Thread& thread, const Instruction& instruction, Space space, u64 address,
                           unsigned bytes, Access kind) {
  const auto refuse = [&](const char* what) {
    fail_access(thread, instruction, what, address, bytes, kind);
  };
  Region* region = region_of(address, bytes);
  if (region == nullptr || (space == Space::Constant && !region->constant)) {
    refuse(space == Space::Constant ? "constant memory access out of bounds"
                                    : "global memory access out of bounds");
  }
  if (region->constant && instruction.space == Space::Global) {
    refuse("global access to constant memory");
  }
  if (kind != Access::Load && !region->writable) refuse("store to read-only memory");
  const u64 device = address - region->base + region->device;
  if (device & (bytes - 1)) refuse("misaligned address");

  if (statistics && !region->constant) {
    u8 how = 0;
    if (kind != Access::Store) {
      region->read += bytes;
      how |= kTouchedByRead;
    }
    if (kind != Access::Load) {
      region->written += bytes;
      how |= kTouchedByWrite;
    }
    const u64 origin = region->device / kSector;
    const u64 first = device / kSector - origin, last = (device + bytes - 1) / kSector - origin;
    if ((instruction.flags & kNonCoherent) && (region->touched[first] & kTouchedByWrite)) {
      ++stale_reads;
    }
    for (u64 sector = first; sector <= last; ++sector) region->touched[sector] |= how;
    if (instruction.site != kNoSite) {
      ++program->sites[instruction.site].global_accesses;
      record(thread, instruction, device);
    }
  }
  return reinterpret_cast<u8*>(address);
}

// Of the thread's block, or of another one of its cluster.
u8* Machine::access_shared(Thread& thread, const Instruction& instruction, Space space, u64 place,
                           unsigned bytes, Access kind) {
  const auto refuse = [&](const char* what) {
    fail_access(thread, instruction, what, place, bytes, kind);
  };
  Block* holder = thread.block;
  u64 inside = place;
  if (place >= kRankStride) {
    const u64 rank = place / kRankStride - 1;
    if (rank >= blocks.size()) refuse("shared memory of a block that the cluster has not got");
    holder = &blocks[rank];
    inside = place % kRankStride;
    if (holder != thread.block) {
      if (space != Space::Cluster) refuse("shared::cta access to shared memory of another block");
      if (!holder->has_begun()) refuse("shared memory of a block that may not have begun");
      if (holder->has_ended()) refuse("shared memory of a block that has ended");
    }
  }
  if (inside < kSharedBase || inside - kSharedBase + bytes > holder->shared.size()) {
    refuse("shared memory access out of bounds");
  }
  if (statistics && instruction.site != kNoSite) {
    ++program->sites[instruction.site].shared_accesses;
    record(thread, instruction, window(kSharedWindow) | place);
  }
  return holder->shared.data() + (inside - kSharedBase);
}

u8* Machine::access(Thread& thread, const Instruction& instruction, u64 address, unsigned bytes,
                    Access kind) {
  const auto refuse = [&](const char* what) {
    fail_access(thread, instruction, what, address, bytes, kind);
  };
  Space space = instruction.space;
  u64 place = address;
  if (space == Space::Generic) {
    switch (window_of(address)) {
      case kHost:
        space = Space::Global;
        break;
      case kSharedWindow:
        space = Space::Cluster;
        break;
      case kLocalWindow:
        space = Space::Local;
        break;
      case kParameterWindow:
        space = Space::Parameter;
        break;
      default:
        refuse("bad address");
    }
    if (space != Space::Parameter) place &= kWithoutWindow;
  }
  // Where a region lies on the GPU decides whether its addresses are aligned: see access_global.
  if (space != Space::Global && (place & (bytes - 1))) refuse("misaligned address");

  Site* site =
      statistics && instruction.site != kNoSite ? &program->sites[instruction.site] : nullptr;
  switch (space) {
    case Space::Shared:
    case Space::Cluster:
      return access_shared(thread, instruction, space, place, bytes, kind);
    case Space::Local:
      if (place < kLocalBase || place + bytes > thread.local.size()) {
        refuse("local memory access out of bounds");
      }
      if (site != nullptr) ++site->local_accesses;
      return thread.local.data() + place;
    case Space::Parameter: {
      const u64 base = window(kParameterWindow);
      if (kind != Access::Load || place < base || place - base + bytes > parameters.size()) {
        refuse("bad access to kernel parameters");
      }
      return parameters.data() + (place - base);
    }
    default:
      return access_global(thread, instruction, space, place, bytes, kind);
  }
}

string Machine::string_at(Thread& thread, const Instruction& instruction, u64 address) {
  constexpr size_t longest = 4096;
  Instruction reader = instruction;
  reader.space = Space::Generic;
  reader.site = kNoSite;
  string result;
  while (result.size() < longest) {
    const u8 byte = *access(thread, reader, address++, 1, Access::Load);
    if (byte == 0) break;
    result += static_cast<char>(byte);
  }
  return result;
}

}  // namespace ptx
