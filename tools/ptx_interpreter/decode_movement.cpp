// Decoding of comparisons, selections, conversions, moves and accesses to memory.
#include <algorithm>

#include "comparisons.h"
#include "control_operations.h"
#include "conversions.h"
#include "decoder.h"
#include "handlers.h"
#include "memory_operations.h"
#include "special_registers.h"

namespace ptx {

void Decoder::comparison_modifiers() {
  instruction_.op =
      static_cast<u8>(need({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ",
                            "neu", "ltu", "leu", "gtu", "geu", "num", "nan"}));
  instruction_.mode = static_cast<u8>(1 + pick({"and", "or", "xor"}));
  flag("ftz", kFlush);
}

void Decoder::set_predicate() {
  comparison_modifiers();
  instruction_.type2 = instruction_.type = type();
  instruction_.run = is_half(instruction_.type)
                         ? set_predicate_of_halves
                         : for_number(instruction_.type, PTX_CHOOSE(ptx::set_predicate));
  operands(instruction_.mode == kAlone ? "Dss" : "Dssc");
}

void Decoder::set() {
  comparison_modifiers();
  instruction_.type = type();
  instruction_.type2 = type();
  instruction_.run = is_half(instruction_.type2)
                         ? set_value_of_halves
                         : for_number(instruction_.type2, PTX_CHOOSE(set_value));
  operands(instruction_.mode == kAlone ? "dqq" : "dqqc");
}

void Decoder::select() {
  instruction_.type = type();
  instruction_.run = PTX_BITS_HANDLER(select_by_predicate);
  operands("dssc");
}

void Decoder::select_sign() {
  flag("ftz", kFlush);
  instruction_.type = type();
  instruction_.type2 = type();
  instruction_.run = PTX_BITS_HANDLER(select_by_sign);
  operands("dssq");
}

// Braces hold the parts of a register: mov.b64 {%r1, %r2}, %rd1 and mov.b64 %rd1, {%r1, %r2}.
void Decoder::move() {
  instruction_.type = type();
  if (accept("{")) {
    instruction_.elements = static_cast<u8>(1 + count_until("}", ","));
    int slot = 0;
    do {
      if (slot >= kAddressSlot) fail("vector too long");
      instruction_.slot[slot++] = destination();
    } while (accept(","));
    expect("}");
    expect(",");
    instruction_.slot[kAddressSlot] = source(instruction_.type);
    instruction_.run = unpack;
    return expect(";");
  }
  instruction_.slot[0] = destination();
  expect(",");
  int base = 0;
  if (accept("{")) {
    int count = 0;
    do {
      if (count >= kAddressSlot - 1) fail("vector too long");
      instruction_.slot[++count] = source(size_of(instruction_.type) == 16 ? Type::U64 : Type::U32);
    } while (accept(","));
    expect("}");
    instruction_.elements = static_cast<u8>(count);
    instruction_.run = pack;
  } else if (instruction_.type == Type::B128) {
    instruction_.slot[1] = source(Type::B64);
    instruction_.slot[2] = instruction_.slot[1] + 1;
    instruction_.elements = 2;
    instruction_.run = pack;
  } else if (symbol(at_->text, base, instruction_.offset)) {
    ++at_;
    instruction_.slot[kAddressSlot] = base;
    if (accept("+")) instruction_.offset += static_cast<s64>(literal(Type::S64));
    instruction_.run = load_address;
  } else {
    const bool clock = special_register_named(at_->text) == kClock;
    instruction_.run = clock ? move_clock : PTX_BITS_HANDLER(ptx::move);
    instruction_.slot[1] = source(instruction_.type);
  }
  expect(";");
}

// cvta adds the window of a space to an address, and cvta.to takes it away.
void Decoder::convert_address() {
  const bool to_space = take("to");
  space();
  type();
  u64 added = 0;
  const bool shared = instruction_.space == Space::Shared || instruction_.space == Space::Cluster;
  if (shared) added = window(kSharedWindow);
  if (instruction_.space == Space::Local) added = window(kLocalWindow);
  instruction_.slot[0] = destination();
  expect(",");
  instruction_.offset = static_cast<s64>(to_space ? 0 - added : added);
  int base = 0;
  if (symbol(at_->text, base, instruction_.offset)) {
    ++at_;
    instruction_.slot[kAddressSlot] = base;
  } else {
    instruction_.slot[kAddressSlot] = source(Type::U64);
  }
  expect(";");
  instruction_.run = load_address;
}

void Decoder::in_space() {
  space();
  instruction_.run = is_space;
  operands("ds");
}

// mapa.shared::cluster.u32 d, a, b; mapa.u64 d, a, b: a generic address.
void Decoder::map_to_rank() {
  space();
  instruction_.type = type();
  instruction_.slot[0] = destination();
  expect(",");
  int base = 0;
  if (symbol(at_->text, base, instruction_.offset)) {
    ++at_;
    if (accept("+")) instruction_.offset += static_cast<s64>(literal(Type::S64));
    instruction_.slot[kAddressSlot] = base;
  } else {
    instruction_.slot[kAddressSlot] = source(instruction_.type);
  }
  expect(",");
  instruction_.slot[1] = source(Type::U32);
  expect(";");
  instruction_.run = ptx::map_to_rank;
}

void Decoder::rank_of_address() {
  space();
  type();
  instruction_.type = Type::U64;
  instruction_.run = ptx::rank_of_address;
  operands("ds");
}

void Decoder::convert() {
  const int integral = pick({"rni", "rzi", "rmi", "rpi"});
  rounding();
  if (integral >= 0) instruction_.rounding = static_cast<Rounding>(integral);
  flag("ftz", kFlush);
  flag("sat", kSaturate);
  flag("relu", kRelu);
  const Type to = instruction_.type = type();
  const Type from = instruction_.type2 = type();
  if (integral >= 0) instruction_.flags |= kToIntegral;
  if (to == Type::B32 || from == Type::B32) fail("unsupported conversion");
  instruction_.elements = static_cast<u8>(halves_in(to));
  instruction_.run = ptx::convert;

  // The frequent cases, where a conversion of C++ does the same.
  const bool plain = instruction_.flags == 0;
  const bool wide_integer = is_integer(from) && size_of(from) > 1;
  const bool full_float = from == Type::F32 || from == Type::F64;
  if (plain && is_integer(to) && size_of(to) > 1 && wide_integer) {
    instruction_.run = for_integer(to, [from](auto result) {
      return for_integer(from, [](auto value) -> Handler {
        return convert_plain<decltype(result), decltype(value)>;
      });
    });
  }
  if (plain && (to == Type::F32 || to == Type::F64) && (full_float || wide_integer) &&
      instruction_.rounding == Rounding::Nearest) {
    instruction_.run = for_float(to, [from](auto result) {
      return for_number(from, [](auto value) -> Handler {
        return convert_plain<decltype(result), decltype(value)>;
      });
    });
  }
  const bool modified = instruction_.flags & ~(kToIntegral | kFlush);
  if (full_float && !modified && to == from && integral >= 0) {
    instruction_.run = for_float(to, PTX_CHOOSE(convert_to_integral));
  }
  if (full_float && !modified && is_integer(to) && size_of(to) >= 4) {
    instruction_.run = for_integer(to, [from](auto result) {
      return for_float(from, [](auto value) -> Handler {
        // Nothing smaller comes here, but for_integer() knows it.
        using To = std::conditional_t<sizeof(result) >= 4, decltype(result), s32>;
        return convert_to_integer<To, decltype(value)>;
      });
    });
  }
  operands(instruction_.elements == 2 ? "dqq" : "dq");
}

void Decoder::load() { load_or_store(false); }
void Decoder::store() { load_or_store(true); }

void Decoder::load_or_store(bool is_store) {
  memory_modifiers();
  instruction_.type = type();
  if (instruction_.type == Type::B128) {  // two slots of 64 bits
    if (instruction_.elements != 1) fail("unsupported vector");
    instruction_.type = Type::B64;
    instruction_.elements = 2;
    if (is_store) {
      address(kAddressSlot, instruction_.offset);
      expect(",");
      instruction_.slot[0] = source(Type::B64);
    } else {
      instruction_.slot[0] = destination();
      expect(",");
      address(kAddressSlot, instruction_.offset);
    }
    instruction_.slot[1] = instruction_.slot[0] + 1;
    expect(";");
  } else {
    operands(is_store ? "mV?x" : "vm?x");
  }
  // A parameter of a device function, or of a call, lies in the frame.
  if (instruction_.space == Space::Parameter && instruction_.slot[kAddressSlot] == kFrameSlot) {
    instruction_.space = Space::Local;
  }
  instruction_.run = is_store ? PTX_BITS_HANDLER(ptx::store) : PTX_BITS_HANDLER(ptx::load);
  new_site(is_store ? Access::Store : Access::Load);
}

void Decoder::atomic() {
  const bool has_result = opcode_ == "atom";
  memory_modifiers();
  instruction_.op =
      static_cast<u8>(need({"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"}));
  instruction_.type = type();
  if (!has_result) {
    std::fill_n(instruction_.slot, instruction_.elements, kUnusedSlot);
    operands("mV?x", instruction_.elements);
  } else {
    operands(instruction_.op == kAtomicCas ? "dmss?x" : "vmV?x");
  }
  const bool floats = instruction_.type == Type::F32 || instruction_.type == Type::F64;
  const bool arithmetic = instruction_.op <= kAtomicMax;
  instruction_.run = is_half(instruction_.type) && arithmetic ? atomic_halves
                     : floats && arithmetic ? for_float(instruction_.type, PTX_CHOOSE(ptx::atomic))
                                            : PTX_INTEGER_HANDLER(ptx::atomic);
  new_site(Access::Atomic);
}

// cp.async: to shared memory, and done at once. It has two sites, of the store and of the load.
void Decoder::copy() {
  if (!take("async")) fail("unsupported copy");
  if (take("commit_group") || take("wait_group") || take("wait_all")) {
    instruction_.run = do_nothing;
    return skip_operands();
  }
  if (!take("shared") && !take("shared::cta")) fail("unsupported copy");
  take("global");
  memory_modifiers();
  instruction_.space = Space::Shared;
  instruction_.type = Type::B8;
  address(kAddressSlot, instruction_.offset);
  expect(",");
  second_address();
  expect(",");
  instruction_.elements = static_cast<u8>(literal(Type::U32));
  instruction_.slot[0] = accept(",") ? source(Type::U32) : constant(u64{instruction_.elements});
  if (accept(",")) source(Type::U64);
  expect(";");
  instruction_.run = copy_async;
  new_site(Access::Store);
  const Instruction store = instruction_;
  instruction_.space = Space::Global;
  new_site(Access::Load);
  instruction_ = store;
}

}  // namespace ptx
