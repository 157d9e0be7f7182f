// PTX's names of types, state spaces, rounding modes and modifiers, and the addresses of its
// state spaces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ptx {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using u128 = unsigned __int128;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using s128 = __int128;
using std::string;
using std::string_view;

// clang-format off
enum class Type : u8 {
  None, Pred,
  B8, B16, B32, B64, B128,
  U8, U16, U32, U64,
  S8, S16, S32, S64,
  F16, BF16, F16x2, BF16x2, TF32, F32, F64,
};
// clang-format on

std::optional<Type> type_named(string_view name);  // "u32", without the dot
string_view name_of(Type type);

inline unsigned size_of(Type type) {
  static const u8 sizes[] = {0, 1, 1, 2, 4, 8, 16, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 4, 4, 4, 8};
  return sizes[static_cast<int>(type)];
}
inline bool is_signed(Type type) { return type >= Type::S8 && type <= Type::S64; }
inline bool is_integer(Type type) { return type >= Type::B8 && type <= Type::S64; }
// One or two numbers of a 16-bit floating point format.
inline bool is_half(Type type) { return type >= Type::F16 && type <= Type::BF16x2; }
inline bool is_bfloat(Type type) { return type == Type::BF16 || type == Type::BF16x2; }
inline int halves_in(Type type) { return type == Type::F16x2 || type == Type::BF16x2 ? 2 : 1; }

// Cluster: the shared memory of all blocks of a cluster; Shared: that of the thread's block.
enum class Space : u8 { Generic, Global, Shared, Cluster, Local, Constant, Parameter };

enum class Rounding : u8 { Nearest, Zero, Down, Up, NearestAway };  // .rn .rz .rm .rp .rna

enum Flag : u16 {
  kFlush = 1,           // .ftz: subnormal operands and results become 0
  kSaturate = 2,        // .sat
  kToIntegral = 4,      // .rni and its like in a conversion between floating point types
  kNegatedSource = 8,   // the predicate among the sources is written with "!"
  kCarryIn = 16,        // addc, subc, madc
  kCarryOut = 32,       // .cc
  kAddress32 = 64,      // the address lies in a 32-bit register
  kAligned = 128,       // a barrier that all threads of a warp must reach together
  kRelu = 256,          // .relu
  kArrive = 512,        // bar.arrive: does not wait
  kNonCoherent = 1024,  // ld.global.nc: through the read-only cache
};

// Generic addresses: the top four bits name a window. Window 0 holds pointers of the host, which
// are the addresses of global and constant memory.
enum Window : u8 { kHost, kSharedWindow, kLocalWindow, kParameterWindow, kFunctionWindow };
constexpr u64 window(Window which) { return u64{which} << 60; }
constexpr unsigned window_of(u64 address) { return static_cast<unsigned>(address >> 60); }
constexpr u64 kWithoutWindow = (u64{1} << 60) - 1;

// The address of a function is its number in the module, times this.
constexpr u64 kFunctionStride = 16;

// Shared and local memory do not begin at 0, so that a null pointer is never valid.
constexpr u32 kSharedBase = 1024;
constexpr u32 kLocalBase = 256;

// Addresses of shared memory from here on name a block of the cluster: the stride times its rank
// + 1.
constexpr u32 kRankStride = u32{1} << 24;

// What registers and memory hold before they are written: a NaN in every floating point format.
constexpr u64 kPoison = ~u64{0};
constexpr u8 kPoisonByte = 0xff;

constexpr u32 kWarp = 32;
constexpr u32 kSector = 32;  // bytes: what the memory of a GPU transfers at least

template <class Integer>
constexpr Integer round_up(Integer value, Integer multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace ptx
