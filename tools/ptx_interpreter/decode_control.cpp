// Decoding of branches, calls, barriers and warp operations.
#include "control_operations.h"
#include "decoder.h"

namespace ptx {

void Decoder::branch() {
  take("uni");
  instruction_.offset = label(at_->text);
  ++at_;
  expect(";");
  instruction_.run = ptx::branch;
}

void Decoder::branch_table() {
  take("idx");
  take("uni");
  instruction_.slot[0] = source(Type::U32);
  expect(",");
  const Token* token = &module_.tokens[label(at_->text)];
  ++at_;
  expect(";");
  std::vector<int> targets;
  for (++token; token->text != ";"; ++token) {
    if (token->text != ",") targets.push_back(label(token->text));
  }
  instruction_.offset = static_cast<s64>(program_.tables.size());
  program_.tables.push_back(targets);
  instruction_.run = branch_indexed;
}

// (a, b): variables of the frame.
std::vector<u32> Decoder::call_list() {
  std::vector<u32> offsets;
  expect("(");
  while (!accept(")")) {
    if (accept(",")) continue;
    const Symbol* symbol = find(at_->text);
    if (!symbol || symbol->kind != Symbol::InFrame) fail("expected a .param variable");
    offsets.push_back(static_cast<u32>(symbol->value));
    ++at_;
  }
  return offsets;
}

// call (results), function or register, (arguments), prototype;
void Decoder::call() {
  take("uni");
  auto site = std::make_unique<CallSite>();
  if (is("(")) {
    site->results = call_list();
    expect(",");
  }
  const auto function = module_.function_numbers.find(at_->text);
  if (function == module_.function_numbers.end()) {
    instruction_.slot[0] = source(Type::U64);
  } else {
    if (module_.functions[function->second].defined) {
      site->function = reach(function->second);
    } else {
      site->builtin = string(at_->text);
    }
    ++at_;
  }
  if (accept(",") && is("(")) {
    site->arguments = call_list();
    if (accept(",")) ++at_;
  }
  expect(";");
  instruction_.run = ptx::call;
  instruction_.offset = static_cast<s64>(program_.calls.size());
  program_.calls.push_back(std::move(site));
}

void Decoder::return_from() {
  take("uni");
  expect(";");
  instruction_.run = ptx::return_from;
}

void Decoder::exit() {
  expect(";");
  instruction_.run = exit_thread;
}

void Decoder::trap() {
  expect(";");
  instruction_.run = ptx::trap;
}

// bar.sync a, b;  bar.arrive a, b;  bar.red.popc.u32 d, a, b, p;  bar.warp.sync mask;
void Decoder::barrier() {
  if (opcode_ == "bar" && take("warp")) {
    warp(kWarpSync);
    return operands("w");
  }
  if (opcode_ == "barrier" && take("cluster")) return cluster_barrier();
  if (opcode_ == "bar" || take("aligned")) instruction_.flags |= kAligned;
  take("cta");
  instruction_.run = wait_at_barrier;
  instruction_.slot[0] = instruction_.slot[1] = kUnusedSlot;
  bool reduces = false;
  if (take("arrive")) {
    instruction_.flags |= kArrive;
  } else if (take("red")) {
    reduces = true;
    instruction_.op = static_cast<u8>(kBarrierCount + need({"popc", "and", "or"}));
    type();
    instruction_.slot[0] = destination();
    expect(",");
  } else {
    need({"sync"});
  }
  instruction_.slot[2] = source(Type::U32);
  instruction_.slot[3] = 0;
  if (accept(",")) {
    const bool has_count = !reduces || count_until(";", ",") > 0;
    if (has_count) instruction_.slot[3] = source(Type::U32);
    if (has_count && reduces) expect(",");
    if (reduces) {
      if (accept("!")) instruction_.flags |= kNegatedSource;
      instruction_.slot[1] = source(Type::Pred);
    }
  }
  expect(";");
}

// barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
void Decoder::cluster_barrier() {
  instruction_.run = need({"arrive", "wait"}) == 0 ? arrive_at_cluster : wait_for_cluster;
  pick({"release", "relaxed", "acquire"});
  take("aligned");
  expect(";");
}

// Fences, and hints to caches and to the scheduler: memory is always up to date here.
void Decoder::nothing() {
  skip_operands();
  modifiers_.clear();
  instruction_.run = do_nothing;
}

void Decoder::active_mask() {
  instruction_.type = type();
  instruction_.run = wait_for_active_mask;
  operands("d");
}

void Decoder::warp(int operation) {
  take("sync");
  instruction_.op = static_cast<u8>(operation);
  instruction_.run = wait_for_warp;
}

void Decoder::shuffle() {
  if (!take("sync")) fail("unsupported: only .sync");
  instruction_.mode = static_cast<u8>(need({"up", "down", "bfly", "idx"}));
  instruction_.type = type();
  warp(kWarpShuffle);
  operands("Dsuuw");
}

void Decoder::vote() {
  if (!take("sync")) fail("unsupported: only .sync");
  instruction_.mode = static_cast<u8>(need({"all", "any", "uni", "ballot"}));
  type();
  warp(kWarpVote);
  operands("dcw");
}

void Decoder::match() {
  instruction_.mode = static_cast<u8>(need({"any", "all"}));
  instruction_.type = type();
  warp(kWarpMatch);
  operands(instruction_.mode ? "Dsw" : "d_sw");
}

void Decoder::reduce() {
  instruction_.mode = static_cast<u8>(need({"add", "min", "max", "and", "or", "xor"}));
  instruction_.type = type();
  if (!is_integer(instruction_.type)) fail("unsupported type");
  warp(kWarpReduce);
  operands("dsw");
}

void Decoder::elect() {
  warp(kWarpElect);
  operands("Dw");
}

}  // namespace ptx
