// From a type that is known at run time to one that the compiler knows: a function is called with a
// value of that type, of which only the type matters.
//
//   with_element(dtype, [&](auto element) { run<decltype(element)>(params); });
#pragma once

#include <stdexcept>

#include "common/element.h"
#include "ops.h"

namespace fvfast {

// function(Float32{}), function(Float64{}), function(BFloat16{}) or function(Float16{}).
template <typename Function>
auto with_element(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kFloat32:
      return function(Float32{});
    case DType::kFloat64:
      return function(Float64{});
    case DType::kBFloat16:
      return function(BFloat16{});
    case DType::kFloat16:
      return function(Float16{});
  }
  throw std::logic_error("with_element(): dtype is none of the four");
}

// function(float{}) or function(double{}): the types that arithmetic has.
template <typename Function>
auto with_real(DType dtype, const Function& function) {
  return dtype == DType::kFloat64 ? function(double{}) : function(float{});
}

}  // namespace fvfast
