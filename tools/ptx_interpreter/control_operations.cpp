#include "control_operations.h"

#include <cstdio>
#include <string>

namespace ptx {

void branch_indexed(Thread& t, const Instruction& i) {
  const auto& table = t.machine->program->tables[i.offset];
  const u32 index = get<u32>(t, i.slot[0]);
  if (index >= table.size()) {
    t.machine->fail(t, i, "brx.idx index " + std::to_string(index) + " beyond the table");
  }
  t.next = table[index];
}

void trap(Thread& t, const Instruction& i) { t.machine->fail(t, i, "trap"); }

void unsupported(Thread& t, const Instruction& i) {
  const Program& program = *t.machine->program;
  for (const auto& [index, why] : program.unsupported) {
    if (index == &i - program.instructions.data()) t.machine->fail(t, i, why);
  }
}

namespace {

// printf: the format, and the arguments one after another, each at a multiple of its size.
void print_formatted(Thread& t, const Instruction& i, u64 format_address, u64 arguments) {
  Instruction reader = i;
  reader.space = Space::Generic;
  reader.site = kNoSite;
  const auto next = [&](unsigned bytes) {
    arguments = round_up(arguments, u64{bytes});
    u64 value = 0;
    std::memcpy(&value, t.machine->access(t, reader, arguments, bytes, Access::Load), bytes);
    arguments += bytes;
    return value;
  };
  const auto next_int = [&] { return static_cast<s32>(next(4)); };

  const string format = t.machine->string_at(t, i, format_address);
  string out;
  for (size_t k = 0; k < format.size(); ++k) {
    if (format[k] != '%' || k + 1 >= format.size()) {
      out += format[k];
      continue;
    }
    if (format[k + 1] == '%') {
      out += '%';
      ++k;
      continue;
    }
    string specification = "%";
    bool is_long = false;
    for (++k; k < format.size() && std::strchr("-+ #0123456789.*lhzjt", format[k]); ++k) {
      if (format[k] == '*') {
        specification += std::to_string(next_int());
      } else if (std::strchr("lzjt", format[k])) {
        is_long = true;
      } else if (format[k] != 'h') {
        specification += format[k];
      }
    }
    char text[512];
    const char conversion = k < format.size() ? format[k] : 'd';
    if (std::strchr("fFeEgGaA", conversion)) {
      const u64 bits = next(8);
      double value;
      std::memcpy(&value, &bits, sizeof value);
      std::snprintf(text, sizeof text, (specification + conversion).c_str(), value);
    } else if (conversion == 's') {
      const string value = t.machine->string_at(t, i, next(8));
      std::snprintf(text, sizeof text, (specification + conversion).c_str(), value.c_str());
    } else if (conversion == 'c') {
      std::snprintf(text, sizeof text, (specification + conversion).c_str(), next_int());
    } else {
      const bool is_signed_int = conversion == 'd' || conversion == 'i';
      const long long value = is_long || conversion == 'p' ? static_cast<long long>(next(8))
                              : is_signed_int              ? next_int()
                                                           : static_cast<long long>(next(4));
      specification += "ll";
      specification += conversion == 'p' ? 'x' : conversion;
      std::snprintf(text, sizeof text, specification.c_str(), value);
    }
    out += text;
  }
  std::fputs(out.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

void call(Thread& t, const Instruction& i) {
  Machine& machine = *t.machine;
  const CallSite& site = *machine.program->calls[i.offset];
  const u32 frame = static_cast<u32>(t.slots[kFrameSlot]);
  const auto argument = [&](int k) {
    u64 value = 0;
    std::memcpy(&value, &t.local[frame + site.arguments[k]], sizeof value);
    return value;
  };
  if (site.builtin == "vprintf") return print_formatted(t, i, argument(0), argument(1));
  if (site.builtin == "__assertfail") {
    machine.fail(t, i,
                 "device assertion failed: " + machine.string_at(t, i, argument(0)) + " (" +
                     machine.string_at(t, i, argument(1)) + ":" +
                     std::to_string(static_cast<u32>(argument(2))) + ")");
  }
  if (!site.builtin.empty()) machine.fail(t, i, "unsupported function " + site.builtin);

  int number = site.function;
  if (number < 0) {
    const u64 pointer = t.slots[i.slot[0]];
    const bool valid = window_of(pointer) == kFunctionWindow && pointer % kFunctionStride == 0;
    number = valid ? static_cast<int>((pointer - window(kFunctionWindow)) / kFunctionStride) : -1;
  }
  const auto function = machine.program->functions.find(number);
  if (number < 0 || function == machine.program->functions.end()) {
    machine.fail(t, i, "call through a bad function pointer");
  }
  const FunctionCode& code = function->second;
  if (code.in.size() != site.arguments.size() || code.out.size() != site.results.size()) {
    machine.fail(t, i, "call with the wrong number of parameters");
  }
  machine.enter(t, code, &site);
  for (size_t k = 0; k < site.arguments.size(); ++k) {
    const Parameter& parameter = code.in[k];
    std::memcpy(&t.local[t.slots[kFrameSlot] + parameter.offset],
                &t.local[frame + site.arguments[k]], parameter.size);
  }
}

void wait_at_barrier(Thread& t, const Instruction& i) {
  t.at = &i;
  t.barrier = get<u32>(t, i.slot[2]);
  t.expected = i.slot[3] ? get<u32>(t, i.slot[3]) : 0;
  if (t.barrier >= kBarriers) t.machine->fail(t, i, "barrier number above 15");
  if (i.flags & kArrive) {
    ++t.block->arrived[t.barrier];
  } else {
    t.state = State::AtBarrier;
  }
}

void arrive_at_cluster(Thread& t, const Instruction& i) {
  if (t.arrived_at_cluster) t.machine->fail(t, i, "arrives again before it has waited");
  t.arrived_at_cluster = true;
  t.cluster_phase = t.machine->cluster_phase;
}

void wait_for_cluster(Thread& t, const Instruction& i) {
  if (!t.arrived_at_cluster) t.machine->fail(t, i, "waits without having arrived");
  t.at = &i;
  if (t.cluster_phase == t.machine->cluster_phase) {
    t.state = State::AtClusterBarrier;
  } else {
    t.arrived_at_cluster = false;  // the barrier has opened since
  }
}

void wait_for_active_mask(Thread& t, const Instruction& i) {
  t.at = &i;
  t.state = State::AtActiveMask;
}

void wait_for_warp(Thread& t, const Instruction& i) {
  t.at = &i;
  t.mask = get<u32>(t, i.slot[kMaskSlot]);
  t.state = State::AtWarpOperation;
  if (!(t.mask >> t.lane & 1)) {
    t.machine->fail(t, i, "the calling lane is not in its member mask");
  }
}

}  // namespace ptx
