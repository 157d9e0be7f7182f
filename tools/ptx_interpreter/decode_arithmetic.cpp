// Decoding of arithmetic, logic and bit instructions.
#include <algorithm>

#include "decoder.h"
#include "float_operations.h"
#include "handlers.h"
#include "integer_operations.h"

namespace ptx {
namespace {

// The handler of a floating point operation, for the type and modifiers of an instruction.
template <class Operation>
Handler float_handler(const Instruction& instruction) {
  if (is_half(instruction.type)) return half_operation<Operation>;
  const bool modified = instruction.flags || instruction.rounding != Rounding::Nearest;
  return for_float(instruction.type, [modified](auto value) -> Handler {
    using T = decltype(value);
    return modified ? float_modified<T, Operation> : float_plain<T, Operation>;
  });
}

}  // namespace

void Decoder::arithmetic_modifiers() {
  instruction_.type = type();
  rounding();
  flag("ftz", kFlush);
  flag("sat", kSaturate);
  flag("relu", kRelu);
  take("noftz");
  const bool rounded = instruction_.rounding != Rounding::Nearest;
  if (is_integer(instruction_.type)) {
    const bool may_saturate =
        instruction_.type == Type::S32 && (opcode_ == "add" || opcode_ == "sub");
    const u16 allowed = may_saturate ? kSaturate : 0;
    if (rounded || (instruction_.flags & ~allowed)) fail("unsupported modifier");
  } else if (is_half(instruction_.type) && rounded) {
    fail("unsupported modifier");
  }
}

void Decoder::integer_modifiers() {
  arithmetic_modifiers();
  if (!is_integer(instruction_.type)) fail("unsupported type");
}

bool Decoder::uses_carry() const {
  return opcode_.back() == 'c' ||
         std::find(modifiers_.begin(), modifiers_.end(), "cc") != modifiers_.end();
}

void Decoder::carry(int operation, const char* pattern) {
  flag("cc", kCarryOut);
  if (opcode_.back() == 'c') instruction_.flags |= kCarryIn;
  instruction_.op = static_cast<u8>(operation);
  instruction_.type = type();
  instruction_.run = PTX_INTEGER_HANDLER(with_carry);
  operands(pattern);
}

void Decoder::add() {
  if (uses_carry()) return carry(kAddCarry, "dss");
  arithmetic_modifiers();
  if (is_integer(instruction_.type)) {
    instruction_.run = instruction_.flags & kSaturate ? integer_add_saturated<s32>
                                                      : PTX_INTEGER_HANDLER(integer_add);
  } else {
    instruction_.run = float_handler<FloatAdd>(instruction_);
  }
  operands("dss");
}

void Decoder::subtract() {
  if (uses_carry()) return carry(kSubtractCarry, "dss");
  arithmetic_modifiers();
  if (is_integer(instruction_.type)) {
    instruction_.run = instruction_.flags & kSaturate ? integer_subtract_saturated<s32>
                                                      : PTX_INTEGER_HANDLER(integer_subtract);
  } else {
    instruction_.run = float_handler<FloatSubtract>(instruction_);
  }
  operands("dss");
}

// mul, mad and fma.
void Decoder::multiply() {
  if (uses_carry()) return carry(kMadLowCarry + need({"lo", "hi"}), "dsss");
  const bool only_product = opcode_ == "mul";
  const int part = pick({"lo", "hi", "wide"});
  arithmetic_modifiers();
  if (is_integer(instruction_.type)) {
    if (part < 0 || opcode_ == "fma") fail("missing .lo, .hi or .wide");
    if (only_product) {
      instruction_.run = part == 0   ? PTX_INTEGER_HANDLER(integer_multiply_low)
                         : part == 1 ? PTX_INTEGER_HANDLER(integer_multiply_high)
                                     : PTX_INTEGER_HANDLER(integer_multiply_wide);
    } else {
      instruction_.run = part == 0   ? PTX_INTEGER_HANDLER(integer_mad_low)
                         : part == 1 ? PTX_INTEGER_HANDLER(integer_mad_high)
                                     : PTX_INTEGER_HANDLER(integer_mad_wide);
    }
  } else {
    instruction_.run = only_product ? float_handler<FloatMultiply>(instruction_)
                                    : float_handler<FloatFma>(instruction_);
  }
  operands(only_product ? "dss" : "dsss");
}

void Decoder::multiply24() {
  if (!take("lo")) fail("unsupported: only .lo");
  integer_modifiers();
  const bool only_product = opcode_ == "mul24";
  instruction_.run =
      only_product ? PTX_INTEGER_HANDLER(integer_multiply24) : PTX_INTEGER_HANDLER(integer_mad24);
  operands(only_product ? "dss" : "dsss");
}

void Decoder::divide() {
  const bool approximate = take("approx");
  take("full");
  arithmetic_modifiers();
  if (is_integer(instruction_.type)) {
    instruction_.run = PTX_INTEGER_HANDLER(integer_divide);
  } else if (approximate) {
    if (instruction_.type != Type::F32) fail("unsupported type");
    instruction_.run = float_modified<float, FloatDivideApproximately>;
  } else {
    instruction_.run = float_handler<FloatDivide>(instruction_);
  }
  operands("dss");
}

void Decoder::remainder() {
  integer_modifiers();
  instruction_.run = PTX_INTEGER_HANDLER(integer_remainder);
  operands("dss");
}

void Decoder::absolute_difference() {
  integer_modifiers();
  instruction_.run = PTX_INTEGER_HANDLER(integer_sad);
  operands("dsss");
}

void Decoder::minimum_or_maximum() {
  const bool propagate = take("NaN"), max = opcode_ == "max";
  arithmetic_modifiers();
  if (is_integer(instruction_.type) && !propagate) {
    instruction_.run = max ? PTX_INTEGER_HANDLER(integer_max) : PTX_INTEGER_HANDLER(integer_min);
  } else if (propagate) {
    instruction_.run =
        max ? float_handler<FloatMaxNan>(instruction_) : float_handler<FloatMinNan>(instruction_);
  } else {
    instruction_.run =
        max ? float_handler<FloatMax>(instruction_) : float_handler<FloatMin>(instruction_);
  }
  operands("dss");
}

void Decoder::negate_or_absolute() {
  const bool absolute = opcode_ == "abs";
  arithmetic_modifiers();
  if (is_half(instruction_.type)) {
    if (instruction_.flags) fail("unsupported modifier");
    instruction_.run = absolute ? half_sign<true> : half_sign<false>;
  } else if (is_integer(instruction_.type)) {
    instruction_.run =
        absolute ? PTX_INTEGER_HANDLER(integer_absolute) : PTX_INTEGER_HANDLER(integer_negate);
  } else {
    instruction_.run = absolute ? float_handler<FloatAbsolute>(instruction_)
                                : float_handler<FloatNegate>(instruction_);
  }
  operands("ds");
}

void Decoder::one_integer_source() {
  if (opcode_ == "bfind") instruction_.mode = take("shiftamt");
  integer_modifiers();
  instruction_.run = opcode_ == "popc"   ? PTX_INTEGER_HANDLER(count_bits)
                     : opcode_ == "clz"  ? PTX_INTEGER_HANDLER(count_leading_zeros)
                     : opcode_ == "brev" ? PTX_INTEGER_HANDLER(reverse_bits)
                                         : PTX_INTEGER_HANDLER(find_bit);
  operands("ds");
}

void Decoder::extract() {
  integer_modifiers();
  instruction_.run = PTX_INTEGER_HANDLER(extract_field);
  operands("dsuu");
}

void Decoder::insert() {
  integer_modifiers();
  instruction_.run = for_integer(instruction_.type, [](auto value) -> Handler {
    return insert_field<Unsigned<decltype(value)>>;
  });
  operands("dssuu");
}

void Decoder::dot_product() {
  instruction_.type = type();
  instruction_.type2 = type();
  instruction_.run = dot_product4;
  operands("dsss");
}

void Decoder::root_or_reciprocal() {
  const bool approximate = take("approx");
  arithmetic_modifiers();
  if (approximate && instruction_.type == Type::F32) {
    instruction_.run = opcode_ == "sqrt"  ? float_approximate<std::sqrt>
                       : opcode_ == "rcp" ? float_approximate<reciprocal>
                                          : float_approximate<reciprocal_sqrt>;
  } else if (approximate && instruction_.type == Type::F64 && opcode_ != "sqrt") {
    instruction_.run =
        opcode_ == "rcp" ? double_approximate<reciprocal> : double_approximate<reciprocal_sqrt>;
  } else if (!approximate && opcode_ != "rsqrt") {
    instruction_.run = opcode_ == "sqrt" ? float_handler<FloatSqrt>(instruction_)
                                         : float_handler<FloatReciprocal>(instruction_);
  }
  operands("ds");
}

void Decoder::transcendental() {
  take("approx");
  arithmetic_modifiers();
  if (instruction_.type == Type::F32) {
    instruction_.run = opcode_ == "sin"   ? float_approximate<std::sin>
                       : opcode_ == "cos" ? float_approximate<std::cos>
                       : opcode_ == "lg2" ? float_approximate<std::log2>
                       : opcode_ == "ex2" ? float_approximate<std::exp2>
                                          : float_approximate<std::tanh>;
  } else if (is_half(instruction_.type)) {
    if (opcode_ == "tanh") instruction_.run = half_operation<FloatTanh>;
    if (opcode_ == "ex2") instruction_.run = half_operation<FloatExp2>;
  }
  operands("ds");
}

void Decoder::sign_copy() {
  instruction_.type = type();
  instruction_.run = for_float(instruction_.type, PTX_CHOOSE(copy_sign));
  operands("dss");
}

void Decoder::property() {
  instruction_.op =
      static_cast<u8>(need({"finite", "infinite", "number", "notanumber", "normal", "subnormal"}));
  instruction_.type = type();
  instruction_.run = for_float(instruction_.type, PTX_CHOOSE(test_property));
  operands("ds");
}

void Decoder::logic() {
  instruction_.type = type();
  if (instruction_.type == Type::Pred) {
    instruction_.run = opcode_ == "and"   ? bits_and<u8>
                       : opcode_ == "or"  ? bits_or<u8>
                       : opcode_ == "xor" ? bits_xor<u8>
                                          : ptx::logical_not<u8>;
  } else {
    instruction_.run = opcode_ == "and"   ? PTX_INTEGER_HANDLER(bits_and)
                       : opcode_ == "or"  ? PTX_INTEGER_HANDLER(bits_or)
                       : opcode_ == "xor" ? PTX_INTEGER_HANDLER(bits_xor)
                                          : PTX_INTEGER_HANDLER(bits_not);
  }
  operands(opcode_ == "not" ? "ds" : "dss");
}

void Decoder::logical_not() {
  instruction_.type = type();
  instruction_.run = PTX_INTEGER_HANDLER(ptx::logical_not);
  operands("ds");
}

void Decoder::logic3() {
  instruction_.type = type();
  instruction_.run = logic_of_three;
  operands("dsssu");
}

void Decoder::shift() {
  instruction_.type = type();
  instruction_.run =
      opcode_ == "shl" ? PTX_INTEGER_HANDLER(shift_left) : PTX_INTEGER_HANDLER(shift_right);
  operands("dsu");
}

void Decoder::funnel() {
  const int right = need({"l", "r"}), wrap = need({"clamp", "wrap"});
  instruction_.mode = static_cast<u8>(right | wrap << 1);
  instruction_.type = type();
  instruction_.run = funnel_shift;
  operands("dssu");
}

void Decoder::mask() {
  instruction_.mode = static_cast<u8>(need({"clamp", "wrap"}));
  instruction_.type = type();
  instruction_.run = bit_mask;
  operands("dss");
}

void Decoder::permute() {
  instruction_.type = type();
  instruction_.mode = static_cast<u8>(1 + pick({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"}));
  instruction_.run = permute_bytes;
  operands("dssu");
}

}  // namespace ptx
