// A module: the variables and functions that PTX text declares, and its decoded kernels.
#pragma once

#include <map>
#include <memory>

#include "lexer.h"
#include "program.h"

namespace ptx {

struct Variable {
  string name;
  Space space = Space::Global;
  Type type = Type::B8;
  u32 align = 1;
  u64 size = 0;
  u64 address = 0;        // of global and constant variables
  bool open_end = false;  // an array without a size: dynamic shared memory
};

struct FunctionHeader {
  string name;
  bool kernel = false, defined = false;
  std::vector<Parameter> in, out;
  size_t body = 0;  // token
  u32 max_threads = 0, required_threads[3] = {}, min_blocks = 0;
};

struct Kernel {
  FunctionHeader header;
  Program program;
};

class Module {
 public:
  explicit Module(const char* source);

  std::map<string, Kernel, std::less<>> kernels;
  std::map<string, Variable, std::less<>> variables;
  std::vector<FunctionHeader> functions;
  std::map<string, int, std::less<>> function_numbers;
  std::vector<string> lines;
  string target;  // sm_80

  // The parser, which the decoder of function bodies uses too.
  std::vector<Token> tokens;
  size_t at = 0;
  const Token& now() const { return tokens[at]; }
  bool is(string_view text) const { return now().text == text; }
  const Token& next() { return tokens[at++]; }
  bool accept(string_view text);
  void expect(string_view text);
  u64 number();
  void skip_line();
  void skip_to(string_view text);  // and over it
  void skip_braces();
  Variable variable();

 private:
  void parse();
  std::vector<Parameter> parameters();
  void function(bool kernel);
  void global_variable(Space space, bool external);
  void initialize(const Variable& variable);
  u64 initial_value();

  string text_;
  std::vector<std::unique_ptr<u8[]>> memory_;  // of the variables
};

}  // namespace ptx
