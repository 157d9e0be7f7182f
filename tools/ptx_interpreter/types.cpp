#include "types.h"

#include <unordered_map>

namespace ptx {
namespace {

const std::unordered_map<string_view, Type> kTypes = {
    {"pred", Type::Pred},   {"b8", Type::B8},         {"b16", Type::B16},   {"b32", Type::B32},
    {"b64", Type::B64},     {"b128", Type::B128},     {"u8", Type::U8},     {"u16", Type::U16},
    {"u32", Type::U32},     {"u64", Type::U64},       {"s8", Type::S8},     {"s16", Type::S16},
    {"s32", Type::S32},     {"s64", Type::S64},       {"f16", Type::F16},   {"bf16", Type::BF16},
    {"f16x2", Type::F16x2}, {"bf16x2", Type::BF16x2}, {"tf32", Type::TF32}, {"f32", Type::F32},
    {"f64", Type::F64}};

}  // namespace

std::optional<Type> type_named(string_view name) {
  const auto found = kTypes.find(name);
  if (found == kTypes.end()) return std::nullopt;
  return found->second;
}

string_view name_of(Type type) {
  for (const auto& [name, each] : kTypes) {
    if (each == type) return name;
  }
  return "none";
}

}  // namespace ptx
