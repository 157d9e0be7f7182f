// Noise injection: out = images + std * normal + uniform_width * uniform.
//
// A thread makes the four numbers of one counter and adds them to the four elements that the
// counter stands for. Elements that follow one another in memory are read and written together,
// others one by one. Each element is read once and written once.
#include <algorithm>
#include <cstdint>

#include "common/dispatch.h"
#include "common/division.h"
#include "cuda/grid.h"
#include "cuda/launch.h"
#include "cuda/noise_group.h"
#include "cuda/packs.h"
#include "ops.h"

namespace fvfast::cuda {

constexpr int kNoiseThreads = 256;

// The elements of an image, in the order of their numbers: the last dimension runs fastest.
struct NoiseDims {
  int count;
  int64_t elements;
  int64_t sizes[kMaxDims];
  int64_t image_strides[kMaxDims];
  int64_t out_strides[kMaxDims];
};

// Merges dimensions that are contiguous with their inner neighbor, and drops those of size 1.
static NoiseDims dims_of(const NoiseParams& params) {
  NoiseDims dims{};
  dims.elements = 1;
  for (int d = 1; d < params.dims; ++d) {
    dims.elements *= params.sizes[d];
    if (params.sizes[d] == 1) continue;
    const int last = dims.count - 1;
    if (dims.count > 0 && dims.image_strides[last] == params.sizes[d] * params.image_strides[d] &&
        dims.out_strides[last] == params.sizes[d] * params.out_strides[d]) {
      dims.sizes[last] *= params.sizes[d];
    } else {
      dims.sizes[dims.count++] = params.sizes[d];
    }
    dims.image_strides[dims.count - 1] = params.image_strides[d];
    dims.out_strides[dims.count - 1] = params.out_strides[d];
  }
  return dims;
}

template <typename Element>
__global__ void __launch_bounds__(kNoiseThreads)
    noise_kernel(const NoiseParams params, const NoiseDims dims, const Identities identities) {
  using Storage = typename Element::Storage;
  using Real = typename Element::Real;
  constexpr int kWords = static_cast<int>(sizeof(Storage));  // of four elements
  constexpr int kAtOnce = kWords == 2 ? 8 : 16;              // bytes
  const int64_t group = int64_t{blockIdx.x} * kNoiseThreads + threadIdx.x;
  const int64_t first = 4 * group;
  if (first >= dims.elements) return;
  const NoiseSource<Real> source(noise_numbers<Real>(params, identities.of(blockIdx.y)),
                                 params.seed);
  Real noise[4] = {0, 0, 0, 0};
  if (source.any()) source.group(static_cast<uint32_t>(group), noise);
  const Storage* images =
      static_cast<const Storage*>(params.images) + blockIdx.y * params.image_strides[0];
  Storage* out = static_cast<Storage*>(params.out) + blockIdx.y * params.out_strides[0];

  const bool flat = dims.count == 0 ||
                    (dims.count == 1 && dims.image_strides[0] == 1 && dims.out_strides[0] == 1);
  if (flat && first + 4 <= dims.elements && is_aligned_to<kAtOnce>(images) &&
      is_aligned_to<kAtOnce>(out)) {
    Words<kWords> words;
    words.load(images + first);
    Real values[4];
    unpack<Element>(words.words, values);
    FVFAST_UNROLL
    for (int i = 0; i < 4; ++i) values[i] += noise[i];
    pack<Element>(values, words.words);
    words.store(out + first);
    return;
  }

  // Each element by itself: its number is split into an index for every dimension.
  FVFAST_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (first + i >= dims.elements) break;
    int64_t rest = first + i, from = 0, to = 0;
    for (int d = dims.count - 1; d >= 0; --d) {
      const int64_t outer = rest / dims.sizes[d], at = rest - outer * dims.sizes[d];
      from += at * dims.image_strides[d];
      to += at * dims.out_strides[d];
      rest = outer;
    }
    out[to] = Element::store(Element::load(images[from]) + noise[i]);
  }
}

template <typename Element>
void launch_noise(const NoiseParams& params, const Target& target) {
  using Storage = typename Element::Storage;
  const NoiseDims dims = dims_of(params);
  const int64_t groups = divided_up(dims.elements, 4);
  const unsigned blocks = grid_x(divided_up(groups, kNoiseThreads), "inject_noise");
  for (int64_t first = 0; first < params.sizes[0]; first += kIdentitiesPerLaunch) {
    const int64_t count = std::min<int64_t>(kIdentitiesPerLaunch, params.sizes[0] - first);
    NoiseParams part = params;
    part.images = static_cast<const Storage*>(params.images) + first * params.image_strides[0];
    part.out = static_cast<Storage*>(params.out) + first * params.out_strides[0];
    noise_kernel<Element>
        <<<dim3(blocks, static_cast<unsigned>(count)), kNoiseThreads, 0, stream_of(target)>>>(
            part, dims, identities_from(params, first, count));
    check_launch("inject_noise");
  }
}

void inject_noise(const NoiseParams& params, const Target& target) {
  for (int d = 0; d < params.dims; ++d) {
    if (params.sizes[d] == 0) return;
  }
  const DeviceGuard guard(target, "inject_noise");
  with_element(params.dtype,
               [&](auto element) { launch_noise<decltype(element)>(params, target); });
}

}  // namespace fvfast::cuda
