// The epilogue of a convolution: bias, sum and activation in one pass over its output, which is
// read once and written once, as the other term is read once.
//
// A thread takes packs of 16 bytes, a grid apart. Which channel its first pack begins in is divided
// out; from one pack to the next it only moves on.
#include <algorithm>
#include <cstdint>

#include "common/clamp.h"
#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/launch.h"
#include "cuda/multiprocessors.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kEpilogueThreads = 256;
// Of a multiprocessor at a time: 1536 threads, each of which waits for 16 or 32 bytes.
constexpr int kEpilogueBlocks = 6;

// A channel, and an element within its `inner` elements.
struct ChannelPlace {
  int64_t channel, offset;
};

FVFAST_HOST_DEVICE ChannelPlace place_of(int64_t element, const ConvolutionEpilogueParams& params) {
  return {element / params.inner % params.channels, element % params.inner};
}

// How a launch goes through the output. What is known on the host takes no registers.
struct EpilogueWalk {
  int64_t elements;
  int64_t step;       // elements from one pack of a thread to its next
  ChannelPlace move;  // by which the step changes the place of a pack, before it wraps around
  bool packs;         // whether the output and the term are accessed 16 bytes at a time
  bool bias_packs;    // whether the biases of any pack are
};

__device__ inline void move_place(ChannelPlace& place, const ChannelPlace& by,
                                  const ConvolutionEpilogueParams& params) {
  place.offset += by.offset;
  place.channel += by.channel;
  if (place.offset >= params.inner) place.offset -= params.inner, ++place.channel;
  if (place.channel >= params.channels) place.channel -= params.channels;
}

__device__ inline void move_to_next(ChannelPlace& place, const ConvolutionEpilogueParams& params) {
  if (++place.offset < params.inner) return;
  place.offset = 0;
  if (++place.channel == params.channels) place.channel = 0;
}

template <typename Element, typename Real, int count>
__device__ void add_pack(const typename Element::Storage* from, Real (&values)[count]) {
  static_assert(count == kPack<Element>, "16 bytes");
  Words<4> words;
  words.load(from);
  Real added[count];
  unpack<Element>(words.words, added);
  FVFAST_UNROLL
  for (int i = 0; i < count; ++i) values[i] += added[i];
}

// Adds the biases of a pack that begins at a place.
template <typename Element, typename Real, int count>
__device__ void add_biases(const ConvolutionEpilogueParams& params, ChannelPlace place,
                           bool in_packs, Real (&values)[count]) {
  const auto* bias = static_cast<const typename Element::Storage*>(params.bias);
  if (in_packs) {
    add_pack<Element>(bias + place.channel, values);
  } else if (place.offset + count <= params.inner) {
    const Real shared = Element::load(bias[place.channel]);
    FVFAST_UNROLL
    for (int i = 0; i < count; ++i) values[i] += shared;
  } else {
    FVFAST_UNROLL
    for (int i = 0; i < count; ++i) {
      values[i] += Element::load(bias[place.channel]);
      move_to_next(place, params);
    }
  }
}

template <typename Element>
__global__ void __launch_bounds__(kEpilogueThreads)
    convolution_epilogue_kernel(const ConvolutionEpilogueParams params, const EpilogueWalk walk) {
  using Storage = typename Element::Storage;
  using Real = typename Element::Real;
  constexpr int kCount = kPack<Element>;
  const auto lowest = static_cast<Real>(params.lowest);
  const auto highest = static_cast<Real>(params.highest);
  const auto* term = static_cast<const Storage*>(params.term);
  auto* output = static_cast<Storage*>(params.output);
  int64_t first = (int64_t{blockIdx.x} * kEpilogueThreads + threadIdx.x) * kCount;
  ChannelPlace place = place_of(first, params);

  for (; first < walk.elements; first += walk.step, move_place(place, walk.move, params)) {
    if (walk.packs && first + kCount <= walk.elements) {
      Words<4> words;
      words.load(output + first);
      Real values[kCount];
      unpack<Element>(words.words, values);
      if (params.bias != nullptr) add_biases<Element>(params, place, walk.bias_packs, values);
      if (term != nullptr) add_pack<Element>(term + first, values);
      FVFAST_UNROLL
      for (int i = 0; i < kCount; ++i) values[i] = clamped(values[i], lowest, highest);
      pack<Element>(values, words.words);
      words.store(output + first);
      continue;
    }
    // The last elements, and memory that is not aligned: one by one.
    const auto* bias = static_cast<const Storage*>(params.bias);
    ChannelPlace at = place;
    for (int64_t i = first; i < first + kCount && i < walk.elements; ++i) {
      Real value = Element::load(output[i]);
      if (bias != nullptr) value += Element::load(bias[at.channel]);
      if (term != nullptr) value += Element::load(term[i]);
      output[i] = Element::store(clamped(value, lowest, highest));
      move_to_next(at, params);
    }
  }
}

template <typename Element>
void launch_epilogue(const ConvolutionEpilogueParams& params, const Target& target) {
  constexpr int64_t kBlockElements = int64_t{kEpilogueThreads} * kPack<Element>;
  const int64_t most = kEpilogueBlocks * multiprocessors(target.device, "convolution_epilogue");
  EpilogueWalk walk{};
  walk.elements = params.elements();
  const int64_t blocks = std::min(divided_up(walk.elements, kBlockElements), most);
  walk.step = blocks * kBlockElements;
  walk.move = place_of(walk.step, params);
  walk.packs = is_aligned_to<16>(params.output) && is_aligned_to<16>(params.term);
  walk.bias_packs =
      params.inner == 1 && params.channels % kPack<Element> == 0 && is_aligned_to<16>(params.bias);
  convolution_epilogue_kernel<Element>
      <<<static_cast<unsigned>(blocks), kEpilogueThreads, 0, stream_of(target)>>>(params, walk);
  check_launch("convolution_epilogue");
}

void convolution_epilogue(const ConvolutionEpilogueParams& params, const Target& target) {
  if (params.elements() == 0) return;
  const DeviceGuard guard(target, "convolution_epilogue");
  with_element(params.dtype,
               [&](auto element) { launch_epilogue<decltype(element)>(params, target); });
}

}  // namespace fvfast::cuda
