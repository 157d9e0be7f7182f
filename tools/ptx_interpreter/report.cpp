#include "report.h"

#include <map>
#include <string>
#include <vector>

namespace ptx {
namespace {

class Object {
 public:
  Object& add(const string& key, u64 value) { return add_raw(key, std::to_string(value)); }
  Object& add_text(const string& key, const string& value) { return add_raw(key, quoted(value)); }
  Object& add_raw(const string& key, const string& value) {
    text_ += (text_.empty() ? "" : ",") + quoted(key) + ":" + value;
    return *this;
  }
  template <class Key>
  static string counts(const std::map<Key, u64>& counts) {
    Object object;
    for (const auto& [key, count] : counts) {
      if constexpr (std::is_same_v<Key, string>) {
        object.add(key, count);
      } else {
        object.add(std::to_string(key), count);
      }
    }
    return object.text();
  }
  string text() const { return "{" + text_ + "}"; }

 private:
  string text_;
};

string list(const std::vector<string>& items) {
  string text;
  for (const string& item : items) text += (text.empty() ? "" : ",") + item;
  return "[" + text + "]";
}

// "ld.global.f32" of "@%p1 ld.global.f32 %f1, [%rd1];"
string opcode_in(const string& line) {
  size_t begin = 0;
  if (line[0] == '{') begin = line.find_first_not_of(" {");
  if (line[begin] == '@') begin = line.find_first_not_of(' ', line.find(' ', begin));
  return line.substr(begin, line.find_first_of(" ;", begin) - begin);
}

void add_accesses(Object& out, const Program& program) {
  static const char* names[kAccessKinds] = {"load", "store", "atomic"};
  for (int kind = 0; kind < kAccessKinds; ++kind) {
    u64 global = 0, shared = 0, local = 0, requests = 0, sectors = 0, ideal = 0;
    std::map<u32, u64> widths;
    for (const Site& site : program.sites) {
      if (static_cast<int>(site.kind) != kind) continue;
      global += site.global_accesses;
      shared += site.shared_accesses;
      local += site.local_accesses;
      requests += site.requests;
      sectors += site.sectors;
      ideal += site.ideal_sectors;
      if (site.global_accesses) widths[site.bytes] += site.global_accesses;
    }
    const string name = names[kind];
    out.add("global_" + name + "s", global)
        .add("shared_" + name + "s", shared)
        .add("local_" + name + "s", local)
        .add(name + "_requests", requests)
        .add(name + "_sectors", sectors)
        .add(name + "_sectors_ideal", ideal)
        .add_raw(name + "_widths", Object::counts(widths));
  }
  u64 requests = 0, wavefronts = 0, conflicts = 0;
  for (const Site& site : program.sites) {
    requests += site.shared_requests;
    wavefronts += site.wavefronts;
    conflicts += site.conflicts;
  }
  out.add("shared_requests", requests)
      .add("shared_wavefronts", wavefronts)
      .add("bank_conflicts", conflicts);
}

void add_buffers(Object& out, const Machine& machine) {
  u64 read = 0, written = 0;
  Object buffers;
  for (const Region& region : machine.regions) {
    if (region.constant) continue;
    read += region.read;
    written += region.written;
    if (region.read + region.written == 0) continue;
    u64 sectors_read = 0, sectors_written = 0;
    for (const u8 how : region.touched) {
      sectors_read += (how & kTouchedByRead) != 0;
      sectors_written += (how & kTouchedByWrite) != 0;
    }
    buffers.add_raw(region.name, Object()
                                     .add("bytes_read", region.read)
                                     .add("bytes_written", region.written)
                                     .add("unique_read", kSector * sectors_read)
                                     .add("unique_written", kSector * sectors_written)
                                     .text());
  }
  out.add("global_bytes_read", read)
      .add("global_bytes_written", written)
      .add_raw("buffers", buffers.text());
}

string sites_of(const Machine& machine) {
  std::vector<string> sites;
  for (const Site& site : machine.program->sites) {
    if (site.global_accesses + site.shared_accesses == 0) continue;
    sites.push_back(Object()
                        .add("line", site.instruction->line)
                        .add_text("text", machine.text_of(*site.instruction))
                        .add("bytes", site.bytes)
                        .add("accesses", site.global_accesses + site.shared_accesses)
                        .add("global_requests", site.requests)
                        .add("sectors", site.sectors)
                        .add("sectors_ideal", site.ideal_sectors)
                        .add("shared_requests", site.shared_requests)
                        .add("wavefronts", site.wavefronts)
                        .add("bank_conflicts", site.conflicts)
                        .text());
  }
  return list(sites);
}

string description_of(const Kernel& kernel) {
  const FunctionHeader& header = kernel.header;
  const Program& program = kernel.program;
  std::vector<string> parameters, unsupported;
  for (const Parameter& parameter : header.in) {
    parameters.push_back(
        list({quoted(string(name_of(parameter.type))), std::to_string(parameter.size),
              std::to_string(parameter.align), std::to_string(parameter.offset),
              parameter.array ? "true" : "false"}));
  }
  for (const auto& [index, why] : program.unsupported) unsupported.push_back(quoted(why));
  std::map<string, u64> registers(program.declared.begin(), program.declared.end());
  u64 local = 0;
  for (const auto& [number, function] : program.functions) local += function.frame;
  std::vector<string> required;
  for (const u32 size : header.required_threads) required.push_back(std::to_string(size));
  return Object()
      .add("static_shared", program.static_shared)
      .add("local_bytes", local)
      .add("instructions", program.instructions.size())
      .add("functions", program.functions.size() - 1)
      .add("maxntid", header.max_threads)
      .add("minctas", header.min_blocks)
      .add_raw("reqntid", list(required))
      .add_raw("registers", Object::counts(registers))
      .add_raw("params", list(parameters))
      .add_raw("unsupported", list(unsupported))
      .text();
}

}  // namespace

string quoted(const string& text) {
  string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<u8>(c) < 32 ? ' ' : c;
  }
  return result + "\"";
}

string statistics_of(const Machine& machine) {
  const Program& program = *machine.program;
  std::map<string, u64> opcodes;
  u64 executed = 0;
  for (const Instruction& instruction : program.instructions) {
    if (instruction.count == 0) continue;
    opcodes[opcode_in(machine.text_of(instruction))] += instruction.count;
    executed += instruction.count;
  }
  Object out;
  out.add("instructions", machine.steps).add("executed", executed);
  add_buffers(out, machine);
  add_accesses(out, program);
  out.add("longest_block", machine.longest_block)
      .add("longest_thread", machine.longest_thread)
      .add("barriers", machine.barriers)
      .add("cluster_barriers", machine.cluster_barriers)
      .add("barriers_after_exit", machine.barriers_after_exit)
      .add("warp_ops", machine.warp_operations)
      .add("shfl_undefined", machine.undefined_shuffles)
      .add("nc_after_write", machine.stale_reads)
      .add_raw("opcodes", Object::counts(opcodes))
      .add_raw("sites", sites_of(machine));
  return out.text();
}

string description_of(const Module& module) {
  Object kernels;
  for (const auto& [name, kernel] : module.kernels) kernels.add_raw(name, description_of(kernel));
  return Object().add_text("target", module.target).add_raw("kernels", kernels.text()).text();
}

}  // namespace ptx
