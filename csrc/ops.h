// The contract between the bindings and the kernels: one plain struct per op, and its launchers.
// bindings/ checks arguments and fills the structs; cpu/ and cuda/ have the kernels, each with
// folders for the crops and for the phase; common/ has what both compute alike.
//
// A struct holds pointers, sizes and strides. Strides count elements, not bytes. Nothing here
// depends on Python or torch. The bindings check every field before a launcher sees it.
#pragma once

#include <cstdint>

#include "common/macros.h"

namespace fvfast {

constexpr int kMaxDims = 16;

enum class DType { kFloat32, kFloat64, kBFloat16, kFloat16 };

// What a random number is for: the last word of its Philox counter.
enum class Purpose : uint32_t {
  kPhase = 0,
  kBox = 1,
  kNoise = 2,  // no purpose has number 3
  kState = 4,
  kLevel = 5,
  kColorShift = 6,
};

// Numbers that differ from step to step, on the device, where a kernel reads them when it runs: a
// captured graph has those of the step in each replay. Row *counter of the table counts, or the
// last one for a larger counter, or the first for a negative one. CUDA only; null: there is no
// table.
struct StepTable {
  const double* numbers;
  int64_t rows;    // >= 1; needs a counter
  int64_t stride;  // from row to row, in elements
};

// The identities of the images, on the device: the lowest 32 bits of each number. CUDA only; null:
// they are not there.
struct DeviceIdentities {
  const int64_t* numbers;
  int64_t stride;  // in elements
};

// boxes[n, k] = (y1, x1, y2, x2), a square in fractions of the image. Block k of image n's counter
// has a word for the row of its center, one for the column, one for the side, and one that is not
// used.
//
//   center = 0.5 + center_spread * normal
//   side   = box_size + spread * deviation, clamped; normal, or uniform in [-1, 1)
struct BoxParams {
  float* boxes;                        // (images, crops, 4), contiguous
  int64_t images;                      // >= 0
  int64_t crops;                       // of each image, 0 <= crops <= 2^32
  const uint32_t* identities;          // the identity of each image, (images,)
  DeviceIdentities device_identities;  // in place of them
  bool normal;                         // whether the deviation of the side is normal, or uniform
  float box_size;                      // this and the four below are finite
  float spread, center_spread;
  float smallest, largest;   // smallest <= largest
  uint64_t seed;             // the Philox key
  uint32_t step;             // the optimization step
  const int64_t* counter;    // on the device, added to the step when the kernel runs; null: 0
  StepTable box_size_table;  // in place of box_size, of one column; any numbers
};

// out = images + std * normal + uniform_width * uniform, with uniform in (-0.5, 0.5).
//
// Four elements have the four words of a Philox counter: the upper 24 bits of two words make two
// normal numbers, and the lower 8 bits of each word make a uniform one.
//
// The elements of one image are numbered in row-major order, whatever its strides. That number, the
// identity, the step and the seed determine the noise of an element.
struct NoiseParams {
  const void* images;               // sizes[0] images of any shape
  void* out;                        // the same sizes; may be `images` itself, with the same strides
  DType dtype;                      // of images and out; float32 arithmetic, or float64 for float64
  int dims;                         // 1 <= dims <= kMaxDims
  int64_t sizes[kMaxDims];          // sizes[0] counts the images
  int64_t image_strides[kMaxDims];  // in elements
  int64_t out_strides[kMaxDims];    // in elements
  const uint32_t* identities;       // the identity of each image, (sizes[0],)
  DeviceIdentities device_identities;  // in place of them
  double std;                          // of the normal noise: finite, >= 0
  double uniform_width;                // of the uniform noise: finite, >= 0
  uint64_t seed;                       // the Philox key
  uint32_t step;                       // the optimization step
  const int64_t* counter;              // as in BoxParams
  StepTable std_table;                 // in place of std, of one column; any numbers, of which
                                       // those that are not > 0 make no noise
  StepTable uniform_width_table;       // in place of uniform_width, likewise
};

// out[n, k] = box k of image n, resampled bilinearly, plus the noise of NoiseParams, in which one
// image is the (crops, channels, height, width) elements of out[n] in row-major order.
//
// Sample i of an axis lies at start (L - 1) + i (stop - start) (L - 1) / (size - 1) for L pixels,
// or in the middle where size is 1. Samples outside the image are 0.
struct CropParams {
  const void* images;  // (batch, channels, image_height, image_width)
  const void* boxes;   // (batch, crops, 4) as y1, x1, y2, x2, contiguous; all samples of a box that
                       // is not finite lie outside
  void* out;           // (batch, crops, channels, height, width), not overlapping the images
  DType image_dtype;   // float32 or float64: also that of the arithmetic
  DType box_dtype;     // float32 or float64
  DType out_dtype;     // any
  int64_t batch, crops, channels, image_height, image_width, height, width;
  int64_t image_strides[4];    // in elements
  int64_t out_strides[5];      // in elements
  const uint32_t* identities;  // from here on as in NoiseParams; no noise if both scales are 0
  DeviceIdentities device_identities;
  double std;
  double uniform_width;
  uint64_t seed;
  uint32_t step;
  const int64_t* counter;
  StepTable std_table;
  StepTable uniform_width_table;
};

// What a step learns about the gradient of an image.
constexpr int32_t kGradientNotFinite = 1;  // one of its values
constexpr int32_t kGradientNotZero = 2;    // one of its values; NaN counts

// The transpose of CropParams without noise: image_gradient[n] = sum over k of what the
// gradient of crop k contributes to each pixel. If there is a transparency, finite values of
// |image_gradient| are added to it. The order of every sum depends on the sizes alone and, on CUDA,
// on the boxes of the image.
struct CropGradientParams {
  const void* gradient;  // (batch, crops, channels, height, width)
  const void* boxes;     // as in CropParams
  void* image_gradient;  // (batch, channels, image_height, image_width), contiguous
  void* transparency;    // the same sizes and type, or null
  void* scratch;         // crop_gradient_scratch() bytes, aligned to 64
  DType gradient_dtype;  // any
  DType box_dtype;       // float32 or float64
  DType image_dtype;     // of image_gradient and transparency, and of the arithmetic: float32 or
                         // float64
  int64_t batch, crops, channels, image_height, image_width, height, width;
  int64_t gradient_strides[5];      // in elements
  int64_t transparency_strides[4];  // in elements
  // On CUDA, each may be null. Images that do not run add nothing to the transparency; the flags of
  // each image are added to those that are there, by or.
  const bool* running;  // (batch,)
  int32_t* flags;       // (batch,)
};

// Phase to image and back. All arrays are contiguous, float32 or float64, and complex numbers are
// pairs (real, imaginary). A half spectrum has half() = W / 2 + 1 columns.
struct SpectrumSizes {
  int64_t images;    // N
  int64_t channels;  // C
  int64_t height;    // H
  int64_t width;     // W

  FVFAST_HOST_DEVICE int64_t half() const { return width / 2 + 1; }
  FVFAST_HOST_DEVICE int64_t rows() const { return channels * height; }  // of one image
  FVFAST_HOST_DEVICE int64_t bins() const {
    return rows() * half();
  }  // of one image's half spectrum
  FVFAST_HOST_DEVICE int64_t pixels() const {
    return rows() * width;
  }  // of one image, counting each channel
};

// Sums over an image have this many parts, whatever the number of threads, which are added up in
// order: the same bits in every run.
constexpr int kSumParts = 64;
constexpr int kSumsPerPart = 4;

// Means and population standard deviations of one image's phase, and of its image before the
// colors.
struct SpectrumStatistics {
  double phase_mean;
  double phase_std;
  double image_mean;
  double image_std;
};

// spectrum = magnitude * exp(i q), where q = (phase - mean) / (std + epsilon), and the statistics
// of the phase and of the spectrum's image.
struct PhaseSpectrumParams {
  const void* magnitude;           // (C, H, half), shared by the images
  const void* phase;               // (N, C, H, half)
  const double* phase_sums;        // (N, 2) sums of the phase and of its squares; null: made here
  void* spectrum;                  // (N, C, H, half), complex
  SpectrumStatistics* statistics;  // (N,)
  double* scratch;                 // (N, kSumParts, kSumsPerPart)
  DType dtype;
  SpectrumSizes sizes;
  double epsilon;  // added to a standard deviation
};

// image = low + (high - low) sigmoid(colors (image - mean) / (std + epsilon)), in place.
struct SpectrumImageParams {
  void* image;  // (N, C, H, W)
  const SpectrumStatistics* statistics;
  DType dtype;
  SpectrumSizes sizes;
  double epsilon;
  double low, high;     // finite, low < high
  bool has_colors;      // then C = 3
  double colors[3][3];  // row i: what channel i adds to the three colors
};

// The gradient with respect to the standardized image of SpectrumImageParams, from that with
// respect to its result: back through the sigmoid and the colors.
struct SpectrumImageGradientParams {
  const void* gradient;  // (N, C, H, W)
  const void* image;     // (N, C, H, W), the result
  void* out;             // (N, C, H, W)
  DType dtype;
  SpectrumSizes sizes;
  double low, high;
  bool has_colors;
  double colors[3][3];
};

// The gradient with respect to the phase, from the real FFT of the gradient above.
struct PhaseGradientParams {
  const void* transform;  // (N, C, H, half), complex: rfft2 of the gradient, not normalized
  const void* spectrum;   // (N, C, H, half), complex: of PhaseSpectrumParams
  const void* phase;      // (N, C, H, half)
  const SpectrumStatistics* statistics;
  void* out;        // (N, C, H, half)
  double* scratch;  // (N, kSumParts, kSumsPerPart)
  DType dtype;
  SpectrumSizes sizes;
  double epsilon;
};

// Sums over a phase come in parts on CUDA, one for each block of the update: as many as keep a
// large GPU busy with one image.
constexpr int kUpdateParts = 256;

// Phase to image on CUDA in two kernels, which contain the transforms: transform_fits() of the
// sizes. The sums of a phase come in parts, which add up to those of PhaseSpectrumParams.
struct PhaseImageParams {
  const void* magnitude;           // (C, H, half), shared by the images
  const void* phase;               // (N, C, H, half)
  const double* phase_sums;        // (N, sum_parts, 2), or null: made here
  int64_t sum_parts;               // >= 1 where there are sums
  void* image;                     // (N, C, H, W)
  SpectrumStatistics* statistics;  // (N,)
  void* scratch;                   // phase_image_scratch() bytes, aligned to 256
  DType dtype;
  SpectrumSizes sizes;
  double epsilon;  // added to a standard deviation
  double low, high;
  bool has_colors;
  double colors[3][3];
};

// The gradient with respect to the phase from that with respect to the image: on CUDA, in three
// kernels, or two where the update finishes it.
struct PhaseImageGradientParams {
  const void* gradient;   // (N, C, H, W)
  const void* image;      // (N, C, H, W), the result
  const void* magnitude;  // (C, H, half)
  const void* phase;      // (N, C, H, half)
  const SpectrumStatistics* statistics;
  void* out;      // (N, C, H, half), or null where it is not finished
  void* scratch;  // phase_image_gradient_scratch() bytes, aligned to 256
  bool finish;    // otherwise `scratch` is for phase_update
  DType dtype;
  SpectrumSizes sizes;
  double epsilon;
  double low, high;
  bool has_colors;
  double colors[3][3];
};

// Which images a step updates: those that run, and whose score and gradient are finite. CUDA only;
// null: all of them.
struct UpdateGate {
  const float* scores;   // (N,)
  const int32_t* flags;  // (N,), of the gradient of the image
  const bool* running;   // (N,)
};

// One step of NAdam up the gradient, and the sums that standardize the new phase:
//   exp_avg    = beta1 exp_avg + (1 - beta1) gradient
//   exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) gradient^2
//   out        = phase + (gradient_rate gradient + momentum_rate exp_avg) /
//                (sqrt(exp_avg_sq / correction) + epsilon)
// An image that does not run has the same phase again. One that runs and is not updated keeps what
// is in `out`: a phase from before, since the present one has led to a score or a gradient that is
// not finite.
struct PhaseUpdateParams {
  const void* phase;     // (N, elements), contiguous as all that follow
  void* out;             // (N, elements): the phase itself or, on CUDA, memory apart from it
  const void* gradient;  // (N, elements), or null where there is an unfinished one
  void* exp_avg;         // (N, elements)
  void* exp_avg_sq;      // (N, elements)
  double* sums;     // of the new phase and of its squares: (N, 2), on CUDA (N, kUpdateParts, 2)
  double* scratch;  // (N, kSumParts, kSumsPerPart); CUDA needs none
  DType dtype;
  int64_t images;    // N
  int64_t elements;  // of one image
  double beta1, beta2;
  double gradient_rate, momentum_rate;  // negative ones descend
  double correction;                    // > 0
  double epsilon;                       // >= 0
  StepTable rates;         // in place of gradient_rate, momentum_rate and correction: three columns
  const int64_t* counter;  // on the device; null where there are no rates
  // On CUDA: the call that left the gradient unfinished, of which only scratch, dtype, statistics,
  // sizes and epsilon are used. Null: the gradient is complete.
  const PhaseImageGradientParams* unfinished;
  UpdateGate gate;
};

// The end of a step on CUDA: which images have ended in it, their scores, the boxes of the next
// step. An image whose new phase is not finite gets the phase before the update back. `counter` is
// the number of the step, and in the end that of the next one.
struct StepEndParams {
  const float* scores;   // (N,)
  int32_t* flags;        // (N,), of the gradients; 0 in the end
  const void* phase;     // (N, elements), before the update
  void* next_phase;      // (N, elements), after it
  double* sums;          // (N, sum_parts, 2), of the phase after the update and of its squares
  bool* running;         // (N,)
  int64_t* ended_in;     // (N,): the step, where an image ends
  bool* by_update;       // (N,): becomes true where an update has ended it
  bool* has_gradient;    // (N,): becomes true in the first `patience` steps with a gradient
  float* recent_scores;  // (N, recent): in column step % recent; NaN where an image has ended
  int64_t* counter;      // (1,)
  int64_t patience;      // >= 0
  int64_t recent;        // >= 1
  int64_t sum_parts;     // >= 1
  DType dtype;           // of the phase: float32 or float64
  int64_t images;        // N
  int64_t elements;      // of one image, >= 1
  BoxParams boxes;       // of the next step, of device_identities and a table; its step and its
                         // counter are not used. No crops: none
};

// A pyramid of levels (common/pyramid.h) and the image that they add up to.
struct PyramidSizes {
  int64_t images;    // N
  int64_t channels;  // C
  int64_t height;    // H, 1 to kLongestSide
  int64_t width;     // W, 1 to kLongestSide
  int64_t levels;    // that take part, the coarsest ones: 1 to those that there are

  FVFAST_HOST_DEVICE int64_t planes() const { return images * channels; }
  FVFAST_HOST_DEVICE int64_t area() const { return height * width; }
};

// image = low + (high - low) sigmoid(gain colors sum), where the sum is that of the levels, each
// resampled to the size of the image. Arrays are contiguous, float32 or float64.
struct PyramidImageParams {
  const void* pyramid;  // (N, C, elements of all levels), the coarsest level first
  void* image;          // (N, C, H, W)
  DType dtype;
  PyramidSizes sizes;
  double low, high;     // finite, low < high
  double gain;          // finite
  bool has_colors;      // then C = 3
  double colors[3][3];  // row i: what channel i adds to the three colors
};

// The gradient with respect to the pyramid, from that with respect to the image: the transpose. It
// is 0 for levels that take no part. The order of every sum depends on the sizes alone.
struct PyramidGradientParams {
  const void* gradient;  // (N, C, H, W)
  const void* image;     // (N, C, H, W), the result
  void* out;             // (N, C, elements of all levels)
  void* scratch;         // pyramid_gradient_scratch() bytes, aligned to 64
  DType dtype;
  PyramidSizes sizes;
  double low, high;
  double gain;
  bool has_colors;
  double colors[3][3];
};

// Winograd convolutions F(2 x 2, 3 x 3): the points at which a tile of pixels is multiplied by
// weights, and the number of outputs whose weights lie together.
constexpr int kWinogradPoints = 16;
constexpr int kWinogradPanel = 32;

// out = clamp(convolution + bias + term, lowest, highest): a convolution of 3 x 3 taps and
// stride 1. All arrays are float32 and contiguous.
struct WinogradParams {
  const float* images;   // (batch, height, width, inputs)
  const float* weights;  // (panels, kWinogradPoints, inputs, kWinogradPanel), 0 beyond the outputs
  const float* bias;     // (outputs,), or null
  const float* term;     // of the output's shape, or null
  float* out;            // (batch, out_height(), out_width(), outputs), overlapping no other
  int64_t batch, height, width, inputs, outputs;
  int64_t pad_y, pad_x;  // zeros on either side, 0 to 2
  bool clamps;
  float lowest, highest;

  FVFAST_HOST_DEVICE int64_t out_height() const { return height + 2 * pad_y - 2; }
  FVFAST_HOST_DEVICE int64_t out_width() const { return width + 2 * pad_x - 2; }
};

// output = clamp(output + bias + term, lowest, highest), in place and rounded once: what follows a
// convolution. NaN stays NaN. The output (batch, channels, height, width) is seen as
// (outer, channels, inner): as (batch, channels, height width), or with channels last as
// (batch height width, channels, 1).
struct ConvolutionEpilogueParams {
  void* output;      // contiguous, as all that follow
  const void* bias;  // (channels,), or null
  const void* term;  // of the output's shape and order, or null
  DType dtype;       // any; sums are float64 for float64, else float32
  int64_t outer, channels, inner;
  double lowest, highest;  // -inf and inf where there is no limit

  FVFAST_HOST_DEVICE int64_t elements() const { return outer * channels * inner; }
};

namespace cpu {
void draw_boxes(const BoxParams& params);
void inject_noise(const NoiseParams& params);
void phase_spectrum(const PhaseSpectrumParams& params);
void spectrum_image(const SpectrumImageParams& params);
void spectrum_image_gradient(const SpectrumImageGradientParams& params);
void phase_gradient(const PhaseGradientParams& params);
void phase_update(const PhaseUpdateParams& params);
void crop_resize(const CropParams& params);
void crop_gradient(const CropGradientParams& params);
void winograd_convolution(const WinogradParams& params);
void convolution_epilogue(const ConvolutionEpilogueParams& params);
void pyramid_image(const PyramidImageParams& params);
void pyramid_gradient(const PyramidGradientParams& params);
int64_t pyramid_gradient_scratch(const PyramidGradientParams& params);  // reads sizes and dtype
// Reads sizes and dtypes only. INT64_MAX if the number of bytes is larger than that.
int64_t crop_gradient_scratch(const CropGradientParams& params);
}  // namespace cpu

// Pointers in a struct are addresses on the device, except for `identities`, which are copied into
// the arguments of a kernel. Launchers return when the work is queued, restore the current device,
// and throw std::runtime_error if CUDA refuses.
namespace cuda {

// Where the work runs: no argument has a default.
struct Target {
  int device;
  void* stream;  // a cudaStream_t
};

void draw_boxes(const BoxParams& params, const Target& target);
void inject_noise(const NoiseParams& params, const Target& target);
void crop_resize(const CropParams& params, const Target& target);
void crop_gradient(const CropGradientParams& params, const Target& target);
// Reads sizes and the type of the image only. Devices with clusters of blocks need none.
int64_t crop_gradient_scratch(const CropGradientParams& params, const Target& target);
void convolution_epilogue(const ConvolutionEpilogueParams& params, const Target& target);

void pyramid_image(const PyramidImageParams& params, const Target& target);
void pyramid_gradient(const PyramidGradientParams& params, const Target& target);
int64_t pyramid_gradient_scratch(const PyramidGradientParams& params);

// Whether the kernels contain the transforms of this height and width on the device.
bool transform_fits(DType dtype, const SpectrumSizes& sizes, bool has_colors, int device);
int64_t phase_image_scratch(DType dtype, const SpectrumSizes& sizes);
int64_t phase_image_gradient_scratch(DType dtype, const SpectrumSizes& sizes);
void phase_image(const PhaseImageParams& params, const Target& target);
void phase_image_gradient(const PhaseImageGradientParams& params, const Target& target);
void phase_update(const PhaseUpdateParams& params, const Target& target);
void end_step(const StepEndParams& params, const Target& target);

// The parts around a transform that is done elsewhere, for sizes that do not fit. phase_spectrum
// needs kUpdateParts sums of the phase or none, and phase_image_scratch() bytes.
void phase_spectrum(const PhaseImageParams& params, void* spectrum, const Target& target);
void spectrum_image(const SpectrumImageParams& params, const Target& target);
void spectrum_image_gradient(const SpectrumImageGradientParams& params, const Target& target);
void phase_gradient(const PhaseImageGradientParams& params, const void* transform,
                    const Target& target);

}  // namespace cuda

}  // namespace fvfast
