// The epilogue of a convolution: bias, sum and activation in one pass over its output.
#include <algorithm>
#include <cstdint>

#include "common/clamp.h"
#include "common/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops.h"

namespace fvfast::cpu {
namespace {

constexpr int kLanes = 16;             // elements that are computed together
constexpr int64_t kGrain = 32 * 1024;  // elements worth a thread

// With channels last a row is a pixel, and each of its elements has its own bias. Otherwise a row
// is a plane, whose elements share one.
struct Rows {
  int64_t count;
  int64_t length;
  bool are_pixels;
};

Rows rows_of(const ConvolutionEpilogueParams& params) {
  if (params.inner == 1) return {params.outer, params.channels, true};
  return {params.outer * params.channels, params.inner, false};
}

// What is added to the elements of a row, from one on; pointers may be null.
template <typename Element>
struct Terms {
  const typename Element::Storage* biases;  // of elements
  const typename Element::Storage* bias;    // of the whole row
  const typename Element::Storage* term;
};

// `count` <= kLanes elements. Stores are a loop of their own, so that the compiler sees that none
// of them changes a later load.
template <typename Element>
FVFAST_HOST_DEVICE void finish_lanes(typename Element::Storage* output, Terms<Element> terms,
                                     int count, typename Element::Real lowest,
                                     typename Element::Real highest) {
  typename Element::Real values[kLanes];
  for (int i = 0; i < count; ++i) values[i] = Element::load(output[i]);
  if (terms.biases != nullptr) {
    for (int i = 0; i < count; ++i) values[i] += Element::load(terms.biases[i]);
  }
  if (terms.bias != nullptr) {
    const auto bias = Element::load(*terms.bias);
    for (int i = 0; i < count; ++i) values[i] += bias;
  }
  if (terms.term != nullptr) {
    for (int i = 0; i < count; ++i) values[i] += Element::load(terms.term[i]);
  }
  for (int i = 0; i < count; ++i) {
    output[i] = Element::store(clamped(values[i], lowest, highest));
  }
}

// The rows [begin, end).
template <typename Element>
struct FinishRows {
  template <SimdLevel>
  static FVFAST_HOST_DEVICE void run(const ConvolutionEpilogueParams& params, const Rows& rows,
                                     int64_t begin, int64_t end) {
    using Storage = typename Element::Storage;
    using Real = typename Element::Real;
    const auto lowest = static_cast<Real>(params.lowest);
    const auto highest = static_cast<Real>(params.highest);
    const auto* bias = static_cast<const Storage*>(params.bias);
    const auto* term = static_cast<const Storage*>(params.term);
    for (int64_t row = begin; row < end; ++row) {
      Storage* output = static_cast<Storage*>(params.output) + row * rows.length;
      for (int64_t i = 0; i < rows.length; i += kLanes) {
        const bool each = bias != nullptr && rows.are_pixels;
        const bool shared = bias != nullptr && !rows.are_pixels;
        const Terms<Element> terms = {each ? bias + i : nullptr,
                                      shared ? bias + row % params.channels : nullptr,
                                      term == nullptr ? nullptr : term + row * rows.length + i};
        const int64_t left = rows.length - i;
        if (left >= kLanes) {
          finish_lanes<Element>(output + i, terms, kLanes, lowest, highest);  // whole vectors
        } else {
          finish_lanes<Element>(output + i, terms, static_cast<int>(left), lowest, highest);
        }
      }
    }
  }
};

}  // namespace

void convolution_epilogue(const ConvolutionEpilogueParams& params) {
  const Rows rows = rows_of(params);
  if (rows.count == 0 || rows.length == 0) return;
  const auto finish_rows = with_element(
      params.dtype, [](auto element) { return select_version<FinishRows<decltype(element)>>(); });
  parallel_for(rows.count, std::max<int64_t>(1, kGrain / rows.length),
               [&](int64_t begin, int64_t end) { finish_rows(params, rows, begin, end); });
}

}  // namespace fvfast::cpu
