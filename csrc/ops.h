// The contract between the bindings and the kernels: one plain struct per op, and its launchers.
//
// A struct holds pointers, sizes and strides. Strides count elements, not bytes. Nothing here knows
// of Python or of torch. The bindings check every field before a launcher sees it.
#pragma once

#include <cstdint>

namespace fvfast {

constexpr int kMaxDims = 16;

enum class DType { kFloat32, kFloat64, kBFloat16, kFloat16 };

// What a random number is for: the last word of its Philox counter.
enum class Purpose : uint32_t {
  kPhase = 0,
  kBox = 1,
  kNormalNoise = 2,
  kUniformNoise = 3,
  kBuffer = 4,
};

// out = images + std * normal + uniform_width * uniform, with uniform in [-0.5, 0.5).
//
// The elements of one image are numbered in row-major order of its sizes, whatever its strides:
// that number, the stream, the step and the seed determine the noise of an element.
struct NoiseParams {
  const void* images;               // sizes[0] images of any shape
  void* out;                        // the same sizes; may be `images` itself, with the same strides
  DType dtype;                      // of images and out; float32 arithmetic, or float64 for float64
  int dims;                         // 1 <= dims <= kMaxDims
  int64_t sizes[kMaxDims];          // sizes[0] counts the images
  int64_t image_strides[kMaxDims];  // in elements
  int64_t out_strides[kMaxDims];    // in elements
  const uint32_t* streams;          // the identity of each image, (sizes[0],)
  double std;                       // of the normal noise: finite, >= 0
  double uniform_width;             // of the uniform noise: finite, >= 0
  uint64_t seed;                    // the Philox key
  uint32_t step;                    // the optimisation step
};

namespace cpu {
void inject_noise(const NoiseParams& params);
}  // namespace cpu

}  // namespace fvfast
