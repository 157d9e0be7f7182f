// Words, modifiers and operands of instructions.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

#include "decoder.h"
#include "special_registers.h"

namespace ptx {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<u8>(c)); }

u64 bits_of(double value) {
  u64 bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
u64 bits_of(float value) {
  u32 bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace

bool Decoder::accept(string_view text) {
  if (!is(text)) return false;
  ++at_;
  return true;
}

void Decoder::expect(string_view text) {
  if (!accept(text)) fail("expected '" + string(text) + "'");
}

bool Decoder::take(string_view modifier) {
  const auto found = std::find(modifiers_.begin(), modifiers_.end(), modifier);
  if (found == modifiers_.end()) return false;
  *found = "";
  return true;
}

int Decoder::pick(std::initializer_list<string_view> modifiers) {
  int which = 0;
  for (const string_view modifier : modifiers) {
    if (take(modifier)) return which;
    ++which;
  }
  return -1;
}

int Decoder::need(std::initializer_list<string_view> modifiers) {
  const int which = pick(modifiers);
  if (which < 0) fail("missing or unknown modifier");
  return which;
}

void Decoder::flag(string_view modifier, Flag flag) {
  if (take(modifier)) instruction_.flags |= flag;
}

// The first modifier that is a type.
Type Decoder::type() {
  for (string_view& modifier : modifiers_) {
    const auto type = type_named(modifier);
    if (!type) continue;
    modifier = "";
    return *type;
  }
  fail("missing type");
}

void Decoder::rounding() {
  const int which = pick({"rn", "rz", "rm", "rp", "rna"});
  if (which >= 0) instruction_.rounding = static_cast<Rounding>(which);
}

void Decoder::space() {
  static const std::pair<string_view, Space> names[] = {
      {"global", Space::Global},        {"shared", Space::Shared},
      {"shared::cta", Space::Shared},   {"shared::cluster", Space::Cluster},
      {"local", Space::Local},          {"const", Space::Constant},
      {"param", Space::Parameter},      {"param::entry", Space::Parameter},
      {"param::func", Space::Parameter}};
  for (const auto& [name, space] : names) {
    if (take(name)) instruction_.space = space;
  }
}

// Modifiers for the order of accesses and for caches make no difference here.
void Decoder::memory_modifiers() {
  static const string_view ignored[] = {"weak",    "volatile", "relaxed", "acquire", "release",
                                        "acq_rel", "mmio",     "cta",     "gpu",     "sys",
                                        "cluster", "ca",       "cg",      "cs",      "cv",
                                        "lu",      "wb",       "wt",      "noftz",   "unified"};
  flag("nc", kNonCoherent);
  for (const string_view modifier : ignored) take(modifier);
  for (string_view& modifier : modifiers_) {
    const string_view cache = modifier.substr(0, 4);
    if (cache == "L1::" || cache == "L2::") modifier = "";
  }
  space();
  const int vector = pick({"v2", "v4", "v8"});
  instruction_.elements = static_cast<u8>(vector < 0 ? 1 : 2 << vector);
}

int Decoder::new_slot() {
  function_->registers.push_back(kPoison);
  return static_cast<int>(function_->registers.size()) - 1;
}

int Decoder::constant(u64 value) {
  const auto [entry, fresh] = constants_.emplace(value, 0);
  if (fresh) {
    entry->second = new_slot();
    function_->registers[entry->second] = value;
  }
  return entry->second;
}

// Its address is known when all static shared variables are.
int Decoder::dynamic_shared_slot(u32 align) {
  program_.shared_align = std::max(program_.shared_align, align);
  const int slot = new_slot();
  dynamic_.emplace_back(function_number_, slot);
  return slot;
}

// The address of a variable, parameter or function as slot + offset; false for a register.
bool Decoder::symbol(string_view name, int& base, s64& offset) {
  if (const Symbol* local = find(name)) {
    switch (local->kind) {
      case Symbol::Register:
        return false;
      case Symbol::InFrame:
        base = kFrameSlot;
        offset += local->value;
        return true;
      case Symbol::KernelParameter:
        base = constant(window(kParameterWindow) + local->value);
        return true;
      case Symbol::StaticShared:
        base = constant(local->value);
        return true;
    }
  }
  const auto found = module_.variables.find(name);
  if (found != module_.variables.end()) {
    const Variable& variable = found->second;
    if (variable.space != Space::Shared) {
      base = constant(variable.address);
    } else if (variable.open_end) {
      base = dynamic_shared_slot(variable.align);
    } else {
      base = constant(place_shared(variable.name, static_cast<u32>(variable.size), variable.align));
    }
    return true;
  }
  const auto function = module_.function_numbers.find(name);
  if (function == module_.function_numbers.end() || !module_.functions[function->second].defined) {
    return false;
  }
  base = constant(window(kFunctionWindow) + kFunctionStride * reach(function->second));
  return true;
}

// 12, -0x1f, 0f3F800000, 0d3FF0000000000000, 1.5
u64 Decoder::literal(Type type) {
  const bool negative = accept("-");
  if (accept("WARP_SZ")) return kWarp;
  const string text(at_->text);
  if (text.empty() || !is_digit(text[0])) fail("expected an operand");
  ++at_;
  const bool prefixed = text.size() > 2 && text[0] == '0';
  double value;
  if (prefixed && std::strchr("fF", text[1])) {
    const u32 bits = static_cast<u32>(std::strtoul(text.c_str() + 2, nullptr, 16));
    if (type != Type::F64) return negative ? bits ^ 0x80000000u : bits;
    float narrow;
    std::memcpy(&narrow, &bits, sizeof narrow);
    value = narrow;
  } else if (prefixed && std::strchr("dD", text[1])) {
    const u64 bits = std::strtoull(text.c_str() + 2, nullptr, 16);
    std::memcpy(&value, &bits, sizeof value);
  } else if (text.find('.') != string::npos) {
    value = std::strtod(text.c_str(), nullptr);
  } else {
    if (type == Type::F32 || type == Type::F64 || is_half(type)) {
      fail("integer literal for a float operand");
    }
    const u64 integer = std::strtoull(text.c_str(), nullptr, 0);
    return negative ? 0 - integer : integer;
  }
  if (negative) value = -value;
  return type == Type::F32 ? bits_of(static_cast<float>(value)) : bits_of(value);
}

// The slot of a register, special register or literal.
int Decoder::source(Type type) {
  const Symbol* symbol = find(at_->text);
  if (symbol && symbol->kind == Symbol::Register) {
    ++at_;
    return static_cast<int>(symbol->value);
  }
  if (at_->text.empty() || at_->text[0] != '%') return constant(literal(type));
  if (symbol) fail("not a register");
  const auto special = special_register_named(at_->text);
  if (!special) fail("unknown register");
  ++at_;
  const auto [entry, fresh] = specials_.emplace(*special, 0);
  if (fresh) {
    entry->second = new_slot();
    function_->specials.emplace_back(entry->second, *special);
  }
  return entry->second;
}

int Decoder::destination() {
  if (accept("_")) return kUnusedSlot;
  const Symbol* symbol = find(at_->text);
  if (!symbol || symbol->kind != Symbol::Register) fail("expected a register");
  ++at_;
  return static_cast<int>(symbol->value);
}

void Decoder::vector_operand(int& slot, bool is_source) {
  const auto element = [&] { return is_source ? source(instruction_.type) : destination(); };
  if (!accept("{")) {
    instruction_.slot[slot++] = element();
    return;
  }
  int count = 0;
  do {
    if (slot >= kAddressSlot) fail("vector too long");
    instruction_.slot[slot++] = element();
    ++count;
  } while (accept(","));
  expect("}");
  if (count != instruction_.elements) fail("vector of the wrong length");
}

// [base], [base+offset]
void Decoder::address(int slot, s64& offset) {
  expect("[");
  offset = 0;
  const Symbol* register_symbol = find(at_->text);
  int base = 0;
  if (register_symbol && register_symbol->kind == Symbol::Register) {
    if (size_of(register_symbol->type) == 4 && slot == kAddressSlot) {
      instruction_.flags |= kAddress32;
    }
    instruction_.slot[slot] = static_cast<int>(register_symbol->value);
    ++at_;
  } else if (symbol(at_->text, base, offset)) {
    instruction_.slot[slot] = base;
    ++at_;
  } else {
    instruction_.slot[slot] = constant(literal(Type::U64));
  }
  while (accept("+")) offset += static_cast<s64>(literal(Type::S64));
  if (is("-")) offset += static_cast<s64>(literal(Type::S64));
  expect("]");
}

void Decoder::second_address() {
  s64 offset;
  address(kSecondAddressSlot, offset);
  instruction_.slot[kMaskSlot] = static_cast<s32>(offset);
}

// The operands of an instruction, one letter each, into slots one after another:
//   d destination              D destination, or destination|destination
//   s source                   q source of type2
//   u source of type u32       c predicate, or !predicate
//   v vector of destinations   V vector of sources
//   _ a slot without operand   x an operand that makes no difference
//   m address                  w member mask; this and the address have slots of their own
// What follows "?" may be missing.
void Decoder::operands(const char* pattern, int first_slot) {
  int slot = first_slot;
  bool first = true, optional = false;
  for (; *pattern; ++pattern) {
    if (*pattern == '?') {
      optional = true;
      continue;
    }
    s32* const target = &instruction_.slot[slot];
    if (*pattern == '_') {
      *target = kUnusedSlot;
      ++slot;
      continue;
    }
    if (optional && is(";")) break;
    if (!first) expect(",");
    first = false;
    switch (*pattern) {
      case 'd':
        *target = destination();
        ++slot;
        break;
      case 'D':
        target[0] = destination();
        target[1] = accept("|") ? destination() : kUnusedSlot;
        slot += 2;
        break;
      case 's':
        *target = source(instruction_.type);
        ++slot;
        break;
      case 'q':
        *target = source(instruction_.type2);
        ++slot;
        break;
      case 'u':
        *target = source(Type::U32);
        ++slot;
        break;
      case 'c':
        if (accept("!")) instruction_.flags ^= kNegatedSource;
        *target = source(Type::Pred);
        ++slot;
        break;
      case 'v':
        vector_operand(slot, false);
        break;
      case 'V':
        vector_operand(slot, true);
        break;
      case 'm':
        address(kAddressSlot, instruction_.offset);
        break;
      case 'w':
        instruction_.slot[kMaskSlot] = source(Type::U32);
        break;
      case 'x':
        source(Type::U64);
        break;
    }
  }
  expect(";");
}

// How often a word comes before the end of a list.
int Decoder::count_until(string_view end, string_view what) const {
  int count = 0;
  for (const Token* token = at_; token->text != end && !token->text.empty(); ++token) {
    count += token->text == what;
  }
  return count;
}

// Statistics are kept of global and shared memory.
void Decoder::new_site(Access kind) {
  const Space space = instruction_.space;
  const bool counts = space == Space::Global || space == Space::Shared || space == Space::Cluster ||
                      space == Space::Generic;
  if (!counts) return;
  instruction_.site = static_cast<s32>(program_.sites.size());
  Site site;
  site.kind = kind;
  site.bytes = size_of(instruction_.type) * instruction_.elements;
  program_.sites.push_back(site);
}

void Decoder::skip_operands() {
  while (!is(";")) ++at_;
  ++at_;
}

}  // namespace ptx
