// Operations of a warp: lanes of a mask meet, and exchange values.
//
// An operation is complete when all lanes of its mask have arrived or ended.
#pragma once

#include "cuda_emulator/scheduler.h"

namespace cuda_emulator {

enum WarpKind { kShuffle, kBallot, kSync };

// What a lane reads from one that does not take part: undefined on a GPU, NaN here.
constexpr uint64_t kNoValue = 0xFFF8DEADFFC0DEADu;

template <typename To, typename From>
To bits_to(From value) {
  static_assert(sizeof(To) <= 8 && sizeof(From) <= 8);
  To result{};
  std::memcpy(&result, &value, std::min(sizeof(To), sizeof(From)));
  return result;
}

inline void deliver(Warp& warp, const WarpOperation& operation) {
  uint64_t ballot = 0;
  if (operation.kind == kBallot) {
    for (unsigned lane = 0; lane < kWarpThreads; ++lane) {
      if (operation.arrived >> lane & 1) ballot |= warp.given[lane] << lane;
    }
  }
  for (unsigned lane = 0; lane < kWarpThreads; ++lane) {
    if ((operation.arrived >> lane & 1) == 0) continue;
    if (operation.kind == kShuffle) {
      const int source = warp.source[lane];
      warp.received[lane] = operation.arrived >> source & 1 ? warp.given[source] : kNoValue;
    } else {
      warp.received[lane] = ballot;
    }
  }
}

// All operations at which every living lane of their masks has arrived.
inline void complete_warp_operations(Warp& warp) {
  for (unsigned i = 0; i < warp.open;) {
    const WarpOperation operation = warp.operations[i];
    if ((operation.mask & ~warp.exited & ~operation.arrived) != 0) {
      ++i;
      continue;
    }
    deliver(warp, operation);
    warp.operations[i] = warp.operations[--warp.open];
    scheduler.wake(operation.arrived);
  }
}

inline uint64_t meet(const Site* site, WarpKind kind, unsigned mask, uint64_t value,
                     int source = 0) {
  const Unobserved unobserved;
  Warp& warp = scheduler.warp();
  const unsigned lane = scheduler.current().lane(), bit = 1u << lane;
  if ((mask & bit) == 0) {
    fail(to_text(*site) + ": the mask " + to_hexadecimal(mask) + " lacks the calling lane " +
         std::to_string(lane));
  }
  WarpOperation* operation = nullptr;
  for (unsigned i = 0; i < warp.open; ++i) {
    if (warp.operations[i].mask == mask) operation = &warp.operations[i];
  }
  if (operation == nullptr) {
    operation = &warp.operations[warp.open++];
    *operation = {site, kind, mask, 0, nullptr};
    if (kThreadSanitizer) {
      operation->clock =
          &scheduler.block()
               .clocks->warp[scheduler.current().warp()][warp.operations_so_far++ % 64];
    }
  } else if (operation->site != site) {
    fail("lanes of one warp are in different operations with the same mask " +
         to_hexadecimal(mask) + ": " + to_text(*site) + ", others in " + to_text(*operation->site));
  }
  operation->arrived |= bit;
  warp.given[lane] = value;
  warp.source[lane] = source;
  // Only __syncwarp orders memory, a shuffle does not.
  void* clock = kind == kSync ? operation->clock : nullptr;
  if (clock != nullptr) tsan_release(clock);
  scheduler.mark_waiting(State::kInWarp, site);
  if ((mask & ~warp.exited & ~operation->arrived) == 0) complete_warp_operations(warp);
  scheduler.yield();
  if (clock != nullptr) tsan_acquire(clock);
  return warp.received[lane];
}

enum ShuffleKind { kIndexed, kUp, kDown, kXor };

// `argument` is a lane, a distance or a mask; a source outside the segment is the lane itself.
template <typename T>
T shuffle(const Site* site, ShuffleKind kind, unsigned mask, T value, int argument,
          int width = kWarpThreads) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  if (width < 1 || width > static_cast<int>(kWarpThreads) || (width & (width - 1)) != 0) {
    fail(to_text(*site) + ": the width " + std::to_string(width) + " is not a power of two <= 32");
  }
  const int lane = static_cast<int>(scheduler.current().lane());
  const int first = lane & ~(width - 1), end = first + width;
  int source = lane;
  switch (kind) {
    case kIndexed:
      source = first + (argument & (width - 1));
      break;
    case kUp:
      source = lane - argument < first ? lane : lane - argument;
      break;
    case kDown:
      source = lane + argument >= end ? lane : lane + argument;
      break;
    case kXor:
      source = (lane ^ argument) >= end ? lane : lane ^ argument;
      break;
  }
  return bits_to<T>(meet(site, kShuffle, mask, bits_to<uint64_t>(value), source));
}

inline unsigned ballot(const Site* site, unsigned mask, bool predicate) {
  return static_cast<unsigned>(meet(site, kBallot, mask, predicate));
}

inline void sync_warp(const Site* site, unsigned mask = ~0u) { meet(site, kSync, mask, 0); }

}  // namespace cuda_emulator

#define __shfl_sync(mask, value, ...)                                                          \
  ::cuda_emulator::shuffle(CUDA_EMULATOR_SITE("__shfl_sync"), ::cuda_emulator::kIndexed, mask, \
                           value, __VA_ARGS__)
#define __shfl_up_sync(mask, value, ...)                                                     \
  ::cuda_emulator::shuffle(CUDA_EMULATOR_SITE("__shfl_up_sync"), ::cuda_emulator::kUp, mask, \
                           value, __VA_ARGS__)
#define __shfl_down_sync(mask, value, ...)                                                       \
  ::cuda_emulator::shuffle(CUDA_EMULATOR_SITE("__shfl_down_sync"), ::cuda_emulator::kDown, mask, \
                           value, __VA_ARGS__)
#define __shfl_xor_sync(mask, value, ...)                                                      \
  ::cuda_emulator::shuffle(CUDA_EMULATOR_SITE("__shfl_xor_sync"), ::cuda_emulator::kXor, mask, \
                           value, __VA_ARGS__)
#define __ballot_sync(mask, predicate) \
  ::cuda_emulator::ballot(CUDA_EMULATOR_SITE("__ballot_sync"), mask, (predicate) != 0)
#define __any_sync(mask, predicate) \
  static_cast<int>(                 \
      ::cuda_emulator::ballot(CUDA_EMULATOR_SITE("__any_sync"), mask, (predicate) != 0) != 0)
#define __all_sync(mask, predicate) \
  static_cast<int>(                 \
      ::cuda_emulator::ballot(CUDA_EMULATOR_SITE("__all_sync"), mask, (predicate) == 0) == 0)
#define __syncwarp(...) \
  ::cuda_emulator::sync_warp(CUDA_EMULATOR_SITE("__syncwarp") __VA_OPT__(, ) __VA_ARGS__)

// The lanes that have not ended: on a GPU it may be any subset of them that holds the caller.
inline unsigned __activemask() {
  const ::cuda_emulator::Unobserved unobserved;
  return ~::cuda_emulator::scheduler.warp().exited;
}
