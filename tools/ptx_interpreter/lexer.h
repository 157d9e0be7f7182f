// PTX text to words.
#pragma once

#include <stdexcept>
#include <vector>

#include "types.h"

namespace ptx {

struct Token {
  string_view text;  // empty: the end
  int line;
};

struct SyntaxError : std::runtime_error {
  using runtime_error::runtime_error;
};
[[noreturn]] void fail_at(const Token& token, const string& what);

// The tokens refer to the source. "%tid.x", ".reg" and "shared::cta" are one word each, but "a.b.c"
// of an opcode is too.
std::vector<Token> tokens_of(const string& source);

}  // namespace ptx
