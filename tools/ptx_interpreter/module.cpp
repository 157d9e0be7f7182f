#include "module.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

#include "decoder.h"

namespace ptx {
namespace {

constexpr u64 kAllocation = 256;  // variables begin at multiples of it, as allocations do

bool is_number(string_view text) { return !text.empty() && std::isdigit(static_cast<u8>(text[0])); }

std::vector<string> lines_of(const string& text) {
  std::vector<string> lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

Module::Module(const char* source) : text_(source) {
  lines = lines_of(text_);
  tokens = tokens_of(text_);
  parse();
  for (size_t k = 0; k < functions.size(); ++k) {
    // A copy: the decoder reads the others.
    const FunctionHeader header = functions[k];
    if (!header.kernel || !header.defined) continue;
    Kernel& kernel = kernels[header.name];
    kernel.header = header;
    decode_kernel(*this, header, kernel.program);
  }
}

bool Module::accept(string_view text) {
  if (!is(text)) return false;
  ++at;
  return true;
}

void Module::expect(string_view text) {
  if (!accept(text)) fail_at(now(), "expected '" + string(text) + "'");
}

u64 Module::number() {
  const Token& token = next();
  if (!is_number(token.text)) fail_at(token, "expected a number");
  return std::strtoull(string(token.text).c_str(), nullptr, 0);
}

void Module::skip_line() {
  const int line = now().line;
  while (now().line == line && !now().text.empty()) ++at;
}

void Module::skip_to(string_view text) {
  while (!is(text)) {
    if (now().text.empty()) fail_at(now(), "expected '" + string(text) + "' before the end");
    ++at;
  }
  ++at;
}

void Module::skip_braces() {
  int depth = 0;
  while (!now().text.empty()) {
    depth += is("{");
    depth -= is("}");
    ++at;
    if (depth == 0) break;
  }
}

// .align 4 .b8 name[16][2]: the attributes, the type, the name and the dimensions. What .ptr says
// of a parameter, as in .ptr .global .align 4, concerns what it points to.
Variable Module::variable() {
  static const string_view spaces[] = {"global", "const", "shared", "local", "generic"};
  Variable result;
  u64 elements = 1;
  bool pointer = false;
  for (; !now().text.empty() && now().text[0] == '.'; ++at) {
    const string_view word = now().text.substr(1);
    if (word == "align") {
      const u32 align =
          static_cast<u32>(std::strtoul(string(tokens[++at].text).c_str(), nullptr, 0));
      if (!pointer) result.align = align;
    } else if (word == "ptr") {
      pointer = true;
    } else if (word == "v2" || word == "v4") {
      elements *= word[1] - '0';
    } else if (const auto type = type_named(word)) {
      result.type = *type;
      result.align = std::max(result.align, size_of(*type));
    } else if (word == "attribute") {
      while (!is(")")) ++at;
    } else if (!pointer ||
               std::find(std::begin(spaces), std::end(spaces), word) == std::end(spaces)) {
      fail_at(now(), "unknown attribute");
    }
  }
  result.name = string(next().text);
  result.size = elements * size_of(result.type);
  while (accept("[")) {
    if (is("]")) {
      result.open_end = true;
      result.size = 0;
    } else {
      result.size *= number();
    }
    expect("]");
  }
  return result;
}

std::vector<Parameter> Module::parameters() {
  std::vector<Parameter> result;
  if (!accept("(")) return result;
  u32 offset = 0;
  while (!accept(")")) {
    if (accept(",")) continue;
    if (!accept(".param") && !accept(".reg")) fail_at(now(), "expected a parameter");
    const size_t begin = at;
    const Variable v = variable();
    const bool array = std::any_of(tokens.begin() + begin, tokens.begin() + at,
                                   [](const Token& token) { return token.text == "["; });
    offset = round_up(offset, v.align);
    const u32 size = static_cast<u32>(v.size);
    result.push_back({v.name, v.type, v.align, size, offset, array});
    offset += size;
  }
  return result;
}

void Module::function(bool kernel) {
  FunctionHeader header;
  header.kernel = kernel;
  if (!kernel) header.out = parameters();
  header.name = string(next().text);
  header.in = parameters();
  while (!is("{") && !is(";")) {
    const string_view word = next().text;
    if (word == ".maxntid" || word == ".reqntid") {
      u32 sizes[3] = {1, 1, 1};
      for (u32& size : sizes) {
        size = static_cast<u32>(number());
        if (!accept(",")) break;
      }
      if (word == ".maxntid") {
        header.max_threads = sizes[0] * sizes[1] * sizes[2];
      } else {
        std::copy(std::begin(sizes), std::end(sizes), header.required_threads);
      }
    } else if (word == ".minnctapersm") {
      header.min_blocks = static_cast<u32>(number());
    } else if (word.empty()) {
      fail_at(now(), "unexpected end of text");
    }
  }
  if (is("{")) {
    header.defined = true;
    header.body = at;
    skip_braces();
  } else {
    ++at;
  }
  const auto [entry, fresh] =
      function_numbers.emplace(header.name, static_cast<int>(functions.size()));
  if (fresh) {
    functions.push_back(header);
  } else if (header.defined) {  // it had only been declared
    functions[entry->second] = header;
  }
}

u64 Module::initial_value() {
  const bool negative = accept("-");
  const Token& token = next();
  string text(token.text);
  u64 value;
  if (is_number(text)) {
    const bool bits = text.size() > 2 && text[0] == '0' && std::strchr("fFdD", text[1]);
    value = bits ? std::strtoull(text.c_str() + 2, nullptr, 16)
                 : std::strtoull(text.c_str(), nullptr, 0);
  } else {
    if (text == "generic" && accept("(")) {
      text = string(next().text);
      expect(")");
    }
    const auto variable = variables.find(text);
    const auto function = function_numbers.find(text);
    if (variable != variables.end() && variable->second.address) {
      value = variable->second.address;
    } else if (function != function_numbers.end()) {
      value = window(kFunctionWindow) + kFunctionStride * function->second;
    } else {
      fail_at(token, "unknown symbol in an initializer");
    }
    if (accept("+")) {
      value += number();
    } else if (accept("-")) {
      value -= number();
    }
  }
  return negative ? 0 - value : value;
}

// After "=": nested lists are flattened; symbols give addresses.
void Module::initialize(const Variable& variable) {
  const u32 width = size_of(variable.type);
  u8* memory = reinterpret_cast<u8*>(variable.address);
  u64 offset = 0;
  while (!is(";")) {
    if (accept("{") || accept("}") || accept(",")) continue;
    const u64 value = initial_value();
    if (offset + width > variable.size) fail_at(now(), "too many initial values");
    std::memcpy(memory + offset, &value, width);
    offset += width;
  }
}

void Module::global_variable(Space space, bool external) {
  Variable result = variable();
  result.space = space;
  if (external && space != Space::Shared) fail_at(now(), "external variable");
  result.open_end = result.open_end || external;
  if (space != Space::Shared) {
    memory_.emplace_back(new u8[result.size + kAllocation]());
    result.address = round_up(reinterpret_cast<u64>(memory_.back().get()), kAllocation);
  }
  if (accept("=")) initialize(result);
  expect(";");
  variables[result.name] = result;
}

void Module::parse() {
  bool external = false;
  while (!now().text.empty()) {
    const Token token = next();
    const string_view word = token.text;
    if (word == ".version" || word == ".address_size" || word == ".file" || word == ".loc") {
      --at;
      skip_line();
    } else if (word == ".target") {
      target = string(now().text);
      skip_line();
    } else if (word == ".section") {
      while (!is("{")) ++at;
      skip_braces();
    } else if (word == ".pragma") {
      skip_to(";");
    } else if (word == ".extern") {
      external = true;
    } else if (word == ".entry" || word == ".func") {
      function(word == ".entry");
      external = false;
    } else if (word == ".global" || word == ".const" || word == ".shared") {
      const Space space = word == ".global"  ? Space::Global
                          : word == ".const" ? Space::Constant
                                             : Space::Shared;
      global_variable(space, external);
      external = false;
    } else if (word != ".visible" && word != ".weak" && word != ".common") {
      fail_at(token, "unknown directive");
    }
  }
}

}  // namespace ptx
