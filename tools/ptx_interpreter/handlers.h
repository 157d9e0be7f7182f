// Chooses the instance of a handler template for a type of PTX.
#pragma once

#include "program.h"

namespace ptx {

// `choose` is called with a value of the C++ type, and returns the handler; where there is none for
// the type, the result is null.
template <class Choose>
Handler for_integer(Type type, Choose choose) {
  switch (type) {
    case Type::U16:
    case Type::B16:
      return choose(u16{});
    case Type::U32:
    case Type::B32:
      return choose(u32{});
    case Type::U64:
    case Type::B64:
      return choose(u64{});
    case Type::S16:
      return choose(s16{});
    case Type::S32:
      return choose(s32{});
    case Type::S64:
      return choose(s64{});
    default:
      return nullptr;
  }
}

template <class Choose>
Handler for_float(Type type, Choose choose) {
  if (type == Type::F32) return choose(float{});
  if (type == Type::F64) return choose(double{});
  return nullptr;
}

template <class Choose>
Handler for_number(Type type, Choose choose) {
  return type == Type::F32 || type == Type::F64 ? for_float(type, choose)
                                                : for_integer(type, choose);
}

// Moves keep the bits of floating point numbers, and extend small integers.
template <class Choose>
Handler for_bits(Type type, Choose choose) {
  switch (type) {
    case Type::U8:
    case Type::B8:
    case Type::Pred:
      return choose(u8{});
    case Type::S8:
      return choose(s8{});
    case Type::F16:
    case Type::BF16:
      return choose(u16{});
    case Type::F32:
    case Type::F16x2:
    case Type::BF16x2:
      return choose(u32{});
    case Type::F64:
      return choose(u64{});
    default:
      return for_integer(type, choose);
  }
}

// The name of a handler template as a `choose`.
#define PTX_CHOOSE(name) [](auto value) -> Handler { return name<decltype(value)>; }
#define PTX_INTEGER_HANDLER(name) for_integer(instruction_.type, PTX_CHOOSE(name))
#define PTX_BITS_HANDLER(name) for_bits(instruction_.type, PTX_CHOOSE(name))

}  // namespace ptx
