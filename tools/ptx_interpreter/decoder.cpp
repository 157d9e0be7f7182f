#include "decoder.h"

#include <algorithm>
#include <unordered_map>

#include "control_operations.h"
#include "memory_operations.h"

namespace ptx {
namespace {

constexpr u32 kFrameAlign = 64;
constexpr u32 kVariableAlign =
    8;  // of what lies in a frame, at least: arguments are read as 64 bit

}  // namespace

void decode_kernel(Module& module, const FunctionHeader& header, Program& program) {
  Decoder(module, program).kernel(header);
}

void Decoder::kernel(const FunctionHeader& header) {
  reach_functions_in_tables();
  body(header, kKernel);
  while (!to_decode_.empty()) {
    const int number = to_decode_.back();
    to_decode_.pop_back();
    body(module_.functions[number], number);
  }
  place_dynamic_shared();
  for (Instruction& instruction : program_.instructions) {
    if (instruction.site == kNoSite) continue;
    Site& site = program_.sites[instruction.site];
    site.instruction = &instruction;
    if (instruction.run == copy_async) {
      Site& source = program_.sites[instruction.site + 1];
      source.instruction = &instruction;
      site.bytes = source.bytes = instruction.elements;
    }
  }
}

// Variables may hold pointers to functions.
void Decoder::reach_functions_in_tables() {
  for (const auto& [name, variable] : module_.variables) {
    if (variable.space == Space::Shared || variable.type != Type::U64) continue;
    const u8* memory = reinterpret_cast<const u8*>(variable.address);
    for (u64 offset = 0; offset + sizeof(u64) <= variable.size; offset += sizeof(u64)) {
      u64 value;
      std::memcpy(&value, memory + offset, sizeof value);
      if (window_of(value) != kFunctionWindow) continue;
      const u64 number = (value - window(kFunctionWindow)) / kFunctionStride;
      if (number < module_.functions.size() && module_.functions[number].defined) {
        reach(static_cast<int>(number));
      }
    }
  }
}

// Dynamic shared memory follows the static one.
void Decoder::place_dynamic_shared() {
  if (dynamic_.empty()) return;
  program_.static_shared = round_up(program_.static_shared, program_.shared_align);
  for (const auto& [number, slot] : dynamic_) {
    program_.functions[number].registers[slot] = kSharedBase + program_.static_shared;
  }
}

int Decoder::reach(int function) {
  if (program_.functions.emplace(function, FunctionCode()).second) to_decode_.push_back(function);
  return function;
}

u32 Decoder::place_in_frame(u32 size, u32 align) {
  const u32 offset = round_up(frame_cursor_, std::max(align, kVariableAlign));
  frame_cursor_ = offset + size;
  function_->frame = std::max(function_->frame, frame_cursor_);
  return offset;
}

u32 Decoder::place_shared(const string& name, u32 size, u32 align) {
  const auto [entry, fresh] = shared_offsets_.emplace(name, 0);
  program_.shared_align = std::max(program_.shared_align, align);
  if (fresh) {
    entry->second = round_up(program_.static_shared, align);
    program_.static_shared = entry->second + size;
  }
  return kSharedBase + entry->second;
}

const Decoder::Symbol* Decoder::find(string_view name) const {
  for (int scope = scope_; scope >= 0; scope = scopes_[scope].parent) {
    const auto found = scopes_[scope].symbols.find(name);
    if (found != scopes_[scope].symbols.end()) return &found->second;
  }
  return nullptr;
}

int Decoder::label(string_view name) const {
  for (int scope = scope_; scope >= 0; scope = scopes_[scope].parent) {
    const auto found = scopes_[scope].labels.find(name);
    if (found != scopes_[scope].labels.end()) return found->second;
  }
  fail("unknown label " + string(name));
}

void Decoder::declare_parameters(const FunctionHeader& header) {
  function_->in = header.in;
  function_->out = header.out;
  auto& symbols = scopes_[0].symbols;
  if (header.kernel) {
    for (const Parameter& parameter : header.in) {
      symbols[parameter.name] = {Symbol::KernelParameter, parameter.type, parameter.offset};
    }
    return;
  }
  for (auto* list : {&function_->in, &function_->out}) {
    for (Parameter& parameter : *list) {
      parameter.offset = place_in_frame(parameter.size, parameter.align);
      symbols[parameter.name] = {Symbol::InFrame, parameter.type, parameter.offset};
    }
  }
}

// .reg .b32 name, name<count>;
void Decoder::declare_registers() {
  const Token& token = module_.next();
  const auto type = type_named(token.text.substr(1));
  if (!type) fail_at(token, "unsupported register type");
  do {
    const string name(module_.next().text);
    const bool many = module_.accept("<");
    u64 count = 1;
    if (many) {
      count = module_.number();
      module_.expect(">");
    }
    program_.declared[string(name_of(*type))] += static_cast<int>(count);
    for (u64 k = 0; k < count; ++k) {
      scopes_[scope_].symbols[many ? name + std::to_string(k) : name] = {Symbol::Register, *type,
                                                                         new_slot()};
      if (*type == Type::B128) new_slot();
    }
  } while (module_.accept(","));
  module_.expect(";");
}

// .local, .param or .shared within a function.
void Decoder::declare_variable(const FunctionHeader& header) {
  const bool shared = module_.next().text == ".shared";
  const Variable variable = module_.variable();
  module_.expect(";");
  const u32 size = static_cast<u32>(variable.size);
  Symbol& symbol = scopes_[scope_].symbols[variable.name];
  if (shared) {
    // Its name alone is not unique: each function has its own.
    const u32 address = place_shared(header.name + "/" + variable.name, size, variable.align);
    symbol = {Symbol::StaticShared, variable.type, address};
  } else {
    symbol = {Symbol::InFrame, variable.type, place_in_frame(size, variable.align)};
  }
}

void Decoder::declare_label(int instruction) {
  const string name(module_.next().text);
  module_.expect(":");
  const bool targets = module_.is(".branchtargets");
  scopes_[scope_].labels[name] = targets ? static_cast<int>(module_.at) : instruction;
  if (targets || module_.is(".callprototype")) module_.skip_to(";");
}

std::vector<Decoder::Statement> Decoder::statements_of(const FunctionHeader& header) {
  std::vector<Statement> statements;
  module_.at = header.body;
  module_.expect("{");
  while (scope_ >= 0) {
    const string_view word = module_.now().text;
    if (word.empty()) {
      fail_at(module_.now(), "unexpected end of text");
    } else if (module_.accept("{")) {
      scopes_.push_back({scope_, {}, {}, frame_cursor_});
      scope_ = static_cast<int>(scopes_.size()) - 1;
    } else if (module_.accept("}")) {
      // Variables of scopes that follow each other share memory.
      frame_cursor_ = scopes_[scope_].frame;
      scope_ = scopes_[scope_].parent;
    } else if (module_.accept(";")) {
      continue;
    } else if (module_.accept(".reg")) {
      declare_registers();
    } else if (word == ".local" || word == ".param" || word == ".shared") {
      declare_variable(header);
    } else if (word == ".loc" || word == ".file") {
      module_.skip_line();
    } else if (word == ".pragma") {
      module_.skip_to(";");
    } else if (module_.tokens[module_.at + 1].text == ":") {
      declare_label(function_->entry + static_cast<int>(statements.size()));
    } else if (word[0] == '.') {
      fail_at(module_.now(), "unknown directive");
    } else {
      statements.push_back({module_.at, scope_});
      module_.skip_to(";");
    }
  }
  return statements;
}

void Decoder::decode(const Statement& statement) {
  scope_ = statement.scope;
  at_ = &module_.tokens[statement.token];
  instruction_ = Instruction();
  instruction_.line = at_->line;
  Instruction start = instruction_;  // with the guard, should the rest fail
  try {
    if (accept("@")) {
      instruction_.guard_negated = accept("!");
      instruction_.guard = source(Type::Pred);
    }
    instruction_.line = at_->line;
    start = instruction_;
    const string_view opcode = at_->text;
    ++at_;

    modifiers_.clear();
    size_t dot = opcode.find('.');
    opcode_ = opcode.substr(0, dot);
    while (dot != string_view::npos) {
      const size_t next = opcode.find('.', dot + 1);
      modifiers_.push_back(
          opcode.substr(dot + 1, next == string_view::npos ? next : next - dot - 1));
      dot = next;
    }
    const Method method = method_of(opcode_);
    if (method == nullptr) fail("unsupported opcode " + string(opcode));
    (this->*method)();
    for (const string_view modifier : modifiers_) {
      if (modifier.empty()) continue;
      fail("unsupported modifier ." + string(modifier) + " of " + string(opcode));
    }
    if (!instruction_.run) fail("unsupported type or form of " + string(opcode));
  } catch (const SyntaxError& error) {
    instruction_ = start;
    instruction_.run = unsupported;
    program_.unsupported.emplace_back(static_cast<int>(program_.instructions.size()), error.what());
  }
  program_.instructions.push_back(instruction_);
}

void Decoder::body(const FunctionHeader& header, int number) {
  function_ = &program_.functions[number];
  function_number_ = number;
  constants_.clear();
  specials_.clear();
  scopes_.assign(1, {-1, {}, {}, 0});
  scope_ = 0;
  frame_cursor_ = 0;
  function_->entry = static_cast<int>(program_.instructions.size());
  declare_parameters(header);
  for (const Statement& statement : statements_of(header)) decode(statement);

  // The end of a body returns.
  instruction_ = Instruction();
  instruction_.run = ptx::return_from;
  instruction_.line = module_.tokens[module_.at - 1].line;
  program_.instructions.push_back(instruction_);
  function_->frame = round_up(function_->frame, kFrameAlign);
}

Decoder::Method Decoder::method_of(string_view opcode) {
  static const std::unordered_map<string_view, Method> methods = {
      {"add", &Decoder::add},
      {"addc", &Decoder::add},
      {"sub", &Decoder::subtract},
      {"subc", &Decoder::subtract},
      {"mul", &Decoder::multiply},
      {"mad", &Decoder::multiply},
      {"madc", &Decoder::multiply},
      {"fma", &Decoder::multiply},
      {"mul24", &Decoder::multiply24},
      {"mad24", &Decoder::multiply24},
      {"div", &Decoder::divide},
      {"rem", &Decoder::remainder},
      {"sad", &Decoder::absolute_difference},
      {"min", &Decoder::minimum_or_maximum},
      {"max", &Decoder::minimum_or_maximum},
      {"neg", &Decoder::negate_or_absolute},
      {"abs", &Decoder::negate_or_absolute},
      {"popc", &Decoder::one_integer_source},
      {"clz", &Decoder::one_integer_source},
      {"brev", &Decoder::one_integer_source},
      {"bfind", &Decoder::one_integer_source},
      {"bfe", &Decoder::extract},
      {"bfi", &Decoder::insert},
      {"dp4a", &Decoder::dot_product},
      {"sqrt", &Decoder::root_or_reciprocal},
      {"rcp", &Decoder::root_or_reciprocal},
      {"rsqrt", &Decoder::root_or_reciprocal},
      {"sin", &Decoder::transcendental},
      {"cos", &Decoder::transcendental},
      {"lg2", &Decoder::transcendental},
      {"ex2", &Decoder::transcendental},
      {"tanh", &Decoder::transcendental},
      {"copysign", &Decoder::sign_copy},
      {"testp", &Decoder::property},
      {"and", &Decoder::logic},
      {"or", &Decoder::logic},
      {"xor", &Decoder::logic},
      {"not", &Decoder::logic},
      {"cnot", &Decoder::logical_not},
      {"lop3", &Decoder::logic3},
      {"shl", &Decoder::shift},
      {"shr", &Decoder::shift},
      {"shf", &Decoder::funnel},
      {"bmsk", &Decoder::mask},
      {"prmt", &Decoder::permute},
      {"setp", &Decoder::set_predicate},
      {"set", &Decoder::set},
      {"selp", &Decoder::select},
      {"slct", &Decoder::select_sign},
      {"mov", &Decoder::move},
      {"cvta", &Decoder::convert_address},
      {"isspacep", &Decoder::in_space},
      {"mapa", &Decoder::map_to_rank},
      {"getctarank", &Decoder::rank_of_address},
      {"cvt", &Decoder::convert},
      {"ld", &Decoder::load},
      {"ldu", &Decoder::load},
      {"st", &Decoder::store},
      {"atom", &Decoder::atomic},
      {"red", &Decoder::atomic},
      {"cp", &Decoder::copy},
      {"bra", &Decoder::branch},
      {"brx", &Decoder::branch_table},
      {"call", &Decoder::call},
      {"ret", &Decoder::return_from},
      {"exit", &Decoder::exit},
      {"trap", &Decoder::trap},
      {"brkpt", &Decoder::trap},
      {"bar", &Decoder::barrier},
      {"barrier", &Decoder::barrier},
      {"membar", &Decoder::nothing},
      {"fence", &Decoder::nothing},
      {"prefetch", &Decoder::nothing},
      {"prefetchu", &Decoder::nothing},
      {"nanosleep", &Decoder::nothing},
      {"griddepcontrol", &Decoder::nothing},
      {"setmaxnreg", &Decoder::nothing},
      {"discard", &Decoder::nothing},
      {"applypriority", &Decoder::nothing},
      {"activemask", &Decoder::active_mask},
      {"shfl", &Decoder::shuffle},
      {"vote", &Decoder::vote},
      {"match", &Decoder::match},
      {"redux", &Decoder::reduce},
      {"elect", &Decoder::elect},
  };
  const auto found = methods.find(opcode);
  return found == methods.end() ? nullptr : found->second;
}

}  // namespace ptx
