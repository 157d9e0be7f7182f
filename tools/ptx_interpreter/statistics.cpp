// Statistics of warp accesses: lanes of a warp that execute the same instruction for the k-th time
// are taken as one access.
#include <algorithm>

#include "machine.h"

namespace ptx {
namespace {

constexpr u32 kBanks = 32;
constexpr u32 kBankBytes = 4;

void count_global(Site& site, const WarpAccess& access) {
  u64 sectors[2 * kWarp];
  int count = 0;
  u32 lanes = 0;
  for (u32 mask = access.mask; mask; mask &= mask - 1) {
    const u64 address = access.address[__builtin_ctz(mask)];
    if (window_of(address) != kHost) continue;
    ++lanes;
    for (u64 x = address / kSector; x <= (address + site.bytes - 1) / kSector; ++x) {
      if (!count || sectors[count - 1] != x) sectors[count++] = x;
    }
  }
  if (lanes == 0) return;
  std::sort(sectors, sectors + count);
  site.sectors += std::unique(sectors, sectors + count) - sectors;
  site.ideal_sectors += (lanes * site.bytes + kSector - 1) / kSector;
  ++site.requests;
}

// Lanes are served together as far as they touch at most 32 words of 4 bytes. Each such group
// takes as many wavefronts as there are different words in the bank with the most of them.
void count_shared(Site& site, const WarpAccess& access) {
  const u32 together = site.bytes <= 4 ? 32 : site.bytes == 8 ? 16 : 8;
  bool any = false;
  for (u32 begin = 0; begin < kWarp; begin += together) {
    u32 words[2 * kWarp];
    u32 count = 0;
    for (u32 lane = begin; lane < begin + together; ++lane) {
      if (!(access.mask >> lane & 1) || window_of(access.address[lane]) == kHost) continue;
      const u32 address = static_cast<u32>(access.address[lane]);
      for (u32 x = address / kBankBytes; x <= (address + site.bytes - 1) / kBankBytes; ++x) {
        words[count++] = x;
      }
    }
    if (count == 0) continue;
    any = true;
    std::sort(words, words + count);
    count = static_cast<u32>(std::unique(words, words + count) - words);
    u32 banks[kBanks] = {}, most = 0;
    for (u32 k = 0; k < count; ++k) most = std::max(most, ++banks[words[k] % kBanks]);
    site.wavefronts += most;
    site.conflicts += most - 1;
  }
  site.shared_requests += any;
}

}  // namespace

void Machine::record(Thread& thread, const Instruction& instruction, u64 address) {
  auto& warps = program->sites[instruction.site].warps;
  const size_t of_block = (thread.block->threads.size() + kWarp - 1) / kWarp;
  const size_t warp = thread.block->rank * of_block + thread.warp;
  if (warps.size() <= warp) warps.resize(warp + 1);
  auto& accesses = warps[warp];
  const u32 k = thread.accesses[instruction.site]++;
  if (accesses.size() <= k) accesses.resize(k + 1);
  accesses[k].mask |= u32{1} << thread.lane;
  accesses[k].address[thread.lane] = address;
}

void Machine::count_cluster() {
  for (Site& site : program->sites) {
    for (auto& warp : site.warps) {
      for (const WarpAccess& access : warp) {
        count_global(site, access);
        count_shared(site, access);
      }
      warp.clear();
    }
  }
}

}  // namespace ptx
