// A decoded kernel: what the decoder makes of PTX text, and the machine runs.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "types.h"

namespace ptx {

struct Thread;
struct Instruction;
using Handler = void (*)(Thread&, const Instruction&);

// Operands are slots of the registers of a function: immediates and special registers have slots
// too. Destinations come first.
constexpr int kNoGuard = -1;
constexpr int kNoSite = -1;
constexpr int kFrameSlot = 0;   // holds where the function's frame lies in local memory
constexpr int kUnusedSlot = 1;  // takes the results that nobody wants
constexpr int kMaskSlot = 7;    // among Instruction::slot: the member mask of a warp operation,
                                // or the offset of a second address
constexpr int kAddressSlot = 8;
constexpr int kSecondAddressSlot = 9;

struct Instruction {
  Handler run = nullptr;
  s32 guard = kNoGuard;
  s32 slot[10] = {};
  s64 offset = 0;  // of the address; the target of a branch; an index into a table of Program
  Type type = Type::None;
  Type type2 = Type::None;  // of the sources of a conversion or comparison
  Rounding rounding = Rounding::Nearest;
  Space space = Space::Generic;
  u8 elements = 1;  // of a vector
  u8 op = 0, mode = 0;
  bool guard_negated = false;
  u16 flags = 0;
  s32 site = kNoSite;
  s32 line = 0;  // of the PTX text
  mutable u64 count = 0;
};

struct Parameter {
  string name;
  Type type = Type::None;
  u32 align = 1;
  u32 size = 0;
  u32 offset = 0;
  bool array = false;
};

// A function as it lies in the program of one kernel.
struct FunctionCode {
  int entry = -1;
  std::vector<u64> registers{0, kPoison};     // what they hold at the beginning
  std::vector<std::pair<int, int>> specials;  // (slot, special register), filled at the call
  u32 frame = 0;                              // bytes of local memory
  std::vector<Parameter> in, out;             // offsets count from the start of the frame
};

struct CallSite {
  int function = -1;                    // -1: through a pointer, unless there is a builtin
  string builtin;                       // vprintf and the like, which PTX only declares
  std::vector<u32> arguments, results;  // offsets in the caller's frame
};

enum class Access : u8 { Load, Store, Atomic };
constexpr int kAccessKinds = 3;

// Addresses of the lanes of one warp that access memory together.
struct WarpAccess {
  u32 mask = 0;
  u64 address[kWarp];
};

// An instruction that accesses memory, and what was seen of it.
struct Site {
  const Instruction* instruction = nullptr;
  Access kind = Access::Load;
  u32 bytes = 0;
  std::vector<std::vector<WarpAccess>> warps;  // of the cluster that is running
  u64 global_accesses = 0, shared_accesses = 0, local_accesses = 0;
  u64 requests = 0, sectors = 0, ideal_sectors = 0;
  u64 shared_requests = 0, wavefronts = 0, conflicts = 0;
};

constexpr int kKernel = -1;  // the kernel itself, among the functions of its program

// A kernel and every function that it can reach.
struct Program {
  std::vector<Instruction> instructions;
  std::map<int, FunctionCode> functions;  // by number in the module, or kKernel
  std::vector<std::unique_ptr<CallSite>> calls;
  std::vector<std::vector<int>> tables;  // targets of brx.idx
  std::vector<Site> sites;
  u32 static_shared = 0;
  u32 shared_align = 1;
  std::vector<std::pair<int, string>> unsupported;  // (instruction, why)
  std::map<string, int> declared;                   // registers by type
};

}  // namespace ptx
