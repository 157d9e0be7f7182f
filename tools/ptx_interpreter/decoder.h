// The decoder: statements of PTX to instructions.
//
// It works on one kernel and on the functions that it can reach. A first pass over a body finds the
// declarations, the labels and where instructions begin; a second one decodes each instruction.
// What cannot be decoded becomes an instruction that fails when it is executed.
#pragma once

#include <initializer_list>
#include <map>
#include <vector>

#include "module.h"

namespace ptx {

void decode_kernel(Module& module, const FunctionHeader& header, Program& program);

class Decoder {
 public:
  Decoder(Module& module, Program& program) : module_(module), program_(program) {}
  void kernel(const FunctionHeader& header);

 private:
  struct Symbol {
    enum Kind : u8 { Register, InFrame, KernelParameter, StaticShared } kind = Register;
    Type type = Type::None;
    s64 value = 0;  // slot, offset in the frame, offset of the parameter, address
  };
  struct Scope {
    int parent;
    std::map<string, Symbol, std::less<>> symbols;
    std::map<string, int, std::less<>> labels;  // instruction, or the token of a list of targets
    u32 frame;                                  // where its part of the frame begins
  };
  struct Statement {
    size_t token;
    int scope;
  };

  // decoder.cpp: bodies of functions
  void body(const FunctionHeader& header, int number);
  void declare_parameters(const FunctionHeader& header);
  std::vector<Statement> statements_of(const FunctionHeader& header);
  void declare_registers();
  void declare_variable(const FunctionHeader& header);
  void declare_label(int instruction);
  void decode(const Statement& statement);
  void place_dynamic_shared();
  void reach_functions_in_tables();
  int reach(int function);
  u32 place_in_frame(u32 size, u32 align);
  u32 place_shared(const string& name, u32 size, u32 align);
  const Symbol* find(string_view name) const;
  int label(string_view name) const;

  // decoder_operands.cpp: words, modifiers, operands
  [[noreturn]] void fail(const string& what) const { fail_at(*at_, what); }
  bool is(string_view text) const { return at_->text == text; }
  bool accept(string_view text);
  void expect(string_view text);
  bool take(string_view modifier);
  int pick(std::initializer_list<string_view> modifiers);  // -1: none of them
  int need(std::initializer_list<string_view> modifiers);
  void flag(string_view modifier, Flag flag);
  Type type();
  void rounding();
  void space();
  void memory_modifiers();
  int new_slot();
  int constant(u64 value);
  int dynamic_shared_slot(u32 align);
  bool symbol(string_view name, int& base, s64& offset);
  u64 literal(Type type);
  int source(Type type);
  int destination();
  void vector_operand(int& slot, bool is_source);
  void address(int slot, s64& offset);
  void second_address();
  void operands(const char* pattern, int first_slot = 0);
  int count_until(string_view end, string_view what) const;
  void new_site(Access kind);
  void skip_operands();

  // decode_arithmetic.cpp
  void arithmetic_modifiers();
  void integer_modifiers();
  bool uses_carry() const;
  void carry(int operation, const char* pattern);
  void add();
  void subtract();
  void multiply();
  void multiply24();
  void divide();
  void remainder();
  void absolute_difference();
  void minimum_or_maximum();
  void negate_or_absolute();
  void one_integer_source();
  void extract();
  void insert();
  void dot_product();
  void root_or_reciprocal();
  void transcendental();
  void sign_copy();
  void property();
  void logic();
  void logical_not();
  void logic3();
  void shift();
  void funnel();
  void mask();
  void permute();

  // decode_movement.cpp
  void comparison_modifiers();
  void set_predicate();
  void set();
  void select();
  void select_sign();
  void move();
  void convert_address();
  void in_space();
  void map_to_rank();
  void rank_of_address();
  void convert();
  void load();
  void store();
  void load_or_store(bool is_store);
  void atomic();
  void copy();

  // decode_control.cpp
  void branch();
  void branch_table();
  void call();
  std::vector<u32> call_list();
  void return_from();
  void exit();
  void trap();
  void barrier();
  void cluster_barrier();
  void nothing();
  void active_mask();
  void shuffle();
  void vote();
  void match();
  void reduce();
  void elect();
  void warp(int operation);

  using Method = void (Decoder::*)();
  static Method method_of(string_view opcode);

  Module& module_;
  Program& program_;
  std::vector<int> to_decode_;                         // functions that were reached
  std::vector<std::pair<int, int>> dynamic_;           // (function, slot) for dynamic shared memory
  std::map<string, u32, std::less<>> shared_offsets_;  // of static shared variables

  // The function that is being decoded.
  FunctionCode* function_ = nullptr;
  int function_number_ = kKernel;
  std::map<u64, int> constants_;  // slots
  std::map<int, int> specials_;   // slots
  std::vector<Scope> scopes_;
  int scope_ = 0;
  u32 frame_cursor_ = 0;

  // The instruction that is being decoded.
  const Token* at_ = nullptr;
  Instruction instruction_;
  string_view opcode_;                  // up to the first dot
  std::vector<string_view> modifiers_;  // between the dots; empty: taken
};

}  // namespace ptx
