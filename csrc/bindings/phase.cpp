// The bindings of the phase: to the image, back, and one step of the optimizer.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/memory.h"
#include "bindings/phase_checks.h"
#include "bindings/tables.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {
namespace {

double* write_scratch(Memory& memory, const Buffer& scratch, int64_t images) {
  return static_cast<double*>(
      memory.writes("scratch", scratch, DType::kFloat64, images * kSumParts * kSumsPerPart));
}

void phase_spectrum(const Buffer& magnitude, const Buffer& phase, const Buffer& phase_sums,
                    const Buffer& spectrum, const Buffer& statistics, const Buffer& scratch,
                    const std::string& dtype, const std::vector<int64_t>& sizes, double epsilon) {
  const std::string name = "phase_spectrum";
  PhaseSpectrumParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  if (params.sizes.images == 0) return;
  const int64_t images = params.sizes.images, bins = params.sizes.bins();
  Memory memory(name);
  params.magnitude = memory.reads("magnitude", magnitude, params.dtype, bins);
  params.phase = memory.reads("phase", phase, params.dtype, images * bins);
  if (phase_sums.first != 0) {
    params.phase_sums = static_cast<const double*>(
        memory.reads("phase_sums", phase_sums, DType::kFloat64, 2 * images));
  }
  params.spectrum = memory.writes("spectrum", spectrum, params.dtype, 2 * images * bins);
  params.statistics = write_statistics(memory, statistics, images);
  params.scratch = write_scratch(memory, scratch, images);
  memory.require_apart();

  py::gil_scoped_release unlocked;
  cpu::phase_spectrum(params);
}

void spectrum_image(const Buffer& image, const Buffer& statistics, const std::string& dtype,
                    const std::vector<int64_t>& sizes, double epsilon, double low, double high,
                    const std::vector<std::vector<double>>& colors, const TargetArgument& target) {
  const std::string name = "spectrum_image";
  SpectrumImageParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  const int64_t images = params.sizes.images;
  Memory memory(name);
  params.image = memory.writes("image", image, params.dtype, images * params.sizes.pixels());
  params.statistics = read_statistics(memory, statistics, images);
  memory.require_apart();
  run_on(target, params, &cpu::spectrum_image, FVFAST_CUDA_LAUNCHER(spectrum_image));
}

void spectrum_image_gradient(const Buffer& gradient, const Buffer& image, const Buffer& out,
                             const std::string& dtype, const std::vector<int64_t>& sizes,
                             double low, double high,
                             const std::vector<std::vector<double>>& colors,
                             const TargetArgument& target) {
  const std::string name = "spectrum_image_gradient";
  SpectrumImageGradientParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  const int64_t pixels = params.sizes.images * params.sizes.pixels();
  Memory memory(name);
  params.gradient = memory.reads("gradient", gradient, params.dtype, pixels);
  params.image = memory.reads("image", image, params.dtype, pixels);
  params.out = memory.writes("out", out, params.dtype, pixels);
  memory.require_apart();
  run_on(target, params, &cpu::spectrum_image_gradient,
         FVFAST_CUDA_LAUNCHER(spectrum_image_gradient));
}

void phase_gradient(const Buffer& transform, const Buffer& spectrum, const Buffer& phase,
                    const Buffer& statistics, const Buffer& out, const Buffer& scratch,
                    const std::string& dtype, const std::vector<int64_t>& sizes, double epsilon) {
  const std::string name = "phase_gradient";
  PhaseGradientParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  if (params.sizes.images == 0) return;
  const int64_t images = params.sizes.images, elements = images * params.sizes.bins();
  Memory memory(name);
  params.transform = memory.reads("transform", transform, params.dtype, 2 * elements);
  params.spectrum = memory.reads("spectrum", spectrum, params.dtype, 2 * elements);
  params.phase = memory.reads("phase", phase, params.dtype, elements);
  params.statistics = read_statistics(memory, statistics, images);
  params.out = memory.writes("out", out, params.dtype, elements);
  params.scratch = write_scratch(memory, scratch, images);
  memory.require_apart();

  py::gil_scoped_release unlocked;
  cpu::phase_gradient(params);
}

// (scratch, statistics, (N, C, H, W), epsilon) of a phase_image_gradient that was not finished.
using UnfinishedArgument = std::optional<std::tuple<Buffer, Buffer, std::vector<int64_t>, double>>;

PhaseImageGradientParams unfinished_of(
    const std::string& name,
    const std::tuple<Buffer, Buffer, std::vector<int64_t>, double>& unfinished,
    const PhaseUpdateParams& update, const TargetArgument& target, Memory& memory) {
  if (!target.has_value()) reject(name, "unfinished", "none on the CPU", "a gradient");
  const auto& [scratch, statistics, sizes, epsilon] = unfinished;
  PhaseImageGradientParams params{};
  params.dtype = update.dtype;
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "unfinished", epsilon);
  if (params.sizes.images != update.images || params.sizes.bins() != update.elements) {
    reject(name, "unfinished", "the sizes of the phase", "others");
  }
#ifdef FVFAST_WITH_CUDA
  // Where the transform does not fit, no gradient was left unfinished.
  require_fit(name, "unfinished", params.dtype, params.sizes, false, target->first);
  const int64_t bytes = cuda::phase_image_gradient_scratch(params.dtype, params.sizes);
  params.scratch = memory.writes_bytes("unfinished scratch", scratch, bytes, kScratchAlignment);
#endif
  params.statistics = read_statistics(memory, statistics, params.sizes.images);
  return params;
}

// Where the new phase goes, and which images have one: only CUDA has a choice.
void take_gate(const std::string& name, const Buffer& phase, const Buffer& out,
               const Buffer& scores, const Buffer& flags, const Buffer& running,
               const TargetArgument& target, Memory& memory, PhaseUpdateParams& params) {
  const int64_t elements = params.images * params.elements;
  const bool gated = scores.first != 0 || flags.first != 0 || running.first != 0;
  if (!target.has_value() && gated) {
    reject(name, "scores", "no scores, flags or running images on the CPU", "an address");
  }
  if (out.first == 0) {
    params.out = memory.writes("phase", phase, params.dtype, elements);
    params.phase = params.out;
  } else {
    if (!target.has_value()) reject(name, "out", "none on the CPU", "an address");
    params.phase = memory.reads("phase", phase, params.dtype, elements);
    params.out = memory.writes("out", out, params.dtype, elements);
  }
  if (!gated) return;
  const int64_t images = params.images;
  params.gate.scores =
      static_cast<const float*>(memory.reads("scores", scores, DType::kFloat32, images));
  params.gate.flags =
      static_cast<const int32_t*>(memory.reads("flags", flags, DType::kFloat32, images));
  params.gate.running = memory.reads_flags("running", running, images);
}

void phase_update(const Buffer& phase, const Buffer& out, const Buffer& gradient,
                  const Buffer& exp_avg, const Buffer& exp_avg_sq, const Buffer& sums,
                  const Buffer& scratch, const Buffer& scores, const Buffer& flags,
                  const Buffer& running, const std::string& dtype,
                  const std::vector<int64_t>& sizes, const std::array<double, 2>& betas,
                  double gradient_rate, double momentum_rate, double correction, double epsilon,
                  const TableArgument& rates, const Buffer& counter,
                  const UnfinishedArgument& unfinished, const TargetArgument& target) {
  const std::string name = "phase_update";
  PhaseUpdateParams params{};
  params.dtype = real_of(name, "dtype", dtype);
  check_phase_sizes(name, sizes, 2, "(images, elements of each)");
  params.images = sizes[0];
  params.elements = sizes[1];
  for (const double beta : betas) {
    if (!(beta >= 0 && beta < 1)) {
      reject(name, "betas", "two numbers in [0, 1)", std::to_string(beta));
    }
  }
  params.beta1 = betas[0];
  params.beta2 = betas[1];
  params.gradient_rate = finite_of(name, "gradient_rate", gradient_rate);
  params.momentum_rate = finite_of(name, "momentum_rate", momentum_rate);
  if (!(std::isfinite(correction) && correction > 0)) {
    reject(name, "correction", "a finite number > 0", std::to_string(correction));
  }
  params.correction = correction;
  params.epsilon = scale_of(name, "epsilon", epsilon);
  if (params.images == 0) return;
  const int64_t elements = params.images * params.elements;
  Memory memory(name);
  if (!unfinished.has_value()) {
    params.gradient = memory.reads("gradient", gradient, params.dtype, elements);
  }
  take_gate(name, phase, out, scores, flags, running, target, memory, params);
  params.exp_avg = memory.writes("exp_avg", exp_avg, params.dtype, elements);
  params.exp_avg_sq = memory.writes("exp_avg_sq", exp_avg_sq, params.dtype, elements);
  const int64_t parts = target.has_value() ? kUpdateParts : 1;
  params.sums =
      static_cast<double*>(memory.writes("sums", sums, DType::kFloat64, 2 * parts * params.images));
  if (!target.has_value()) params.scratch = write_scratch(memory, scratch, params.images);
  params.counter = counter_of(name, counter, target, memory);
  params.rates = table_of(name, "rates", rates, 3, params.counter, target, memory);
  PhaseImageGradientParams gradient_params{};
  if (unfinished.has_value()) {
    gradient_params = unfinished_of(name, *unfinished, params, target, memory);
    params.unfinished = &gradient_params;
  }
  memory.require_apart();
  run_on(target, params, &cpu::phase_update, FVFAST_CUDA_LAUNCHER(phase_update));
}

}  // namespace

void bind_phase(py::module_& module) {
  module.attr("SUM_PARTS") = kSumParts;
  module.attr("SUMS_PER_PART") = kSumsPerPart;
  module.def("phase_spectrum", &phase_spectrum, py::kw_only(), py::arg("magnitude"),
             py::arg("phase"), py::arg("phase_sums"), py::arg("spectrum"), py::arg("statistics"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             "spectrum = magnitude * exp(i standardized phase), and the "
             "image's mean and deviation; phase_sums may be (0, 0).");
  module.def("spectrum_image", &spectrum_image, py::kw_only(), py::arg("image"),
             py::arg("statistics"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             py::arg("low"), py::arg("high"), py::arg("colors"), py::arg("target"),
             "Standardization, colors, sigmoid and range of an image, in place.");
  module.def("spectrum_image_gradient", &spectrum_image_gradient, py::kw_only(),
             py::arg("gradient"), py::arg("image"), py::arg("out"), py::arg("dtype"),
             py::arg("sizes"), py::arg("low"), py::arg("high"), py::arg("colors"),
             py::arg("target"), "The gradient before the sigmoid and the colors.");
  module.def("phase_gradient", &phase_gradient, py::kw_only(), py::arg("transform"),
             py::arg("spectrum"), py::arg("phase"), py::arg("statistics"), py::arg("out"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             "The gradient of the phase from the transform of the gradient above.");
  module.def("phase_update", &phase_update, py::kw_only(), py::arg("phase"), py::arg("out"),
             py::arg("gradient"), py::arg("exp_avg"), py::arg("exp_avg_sq"), py::arg("sums"),
             py::arg("scratch"), py::arg("scores"), py::arg("flags"), py::arg("running"),
             py::arg("dtype"), py::arg("sizes"), py::arg("betas"), py::arg("gradient_rate"),
             py::arg("momentum_rate"), py::arg("correction"), py::arg("epsilon"), py::arg("rates"),
             py::arg("counter"), py::arg("unfinished"), py::arg("target"),
             "One step of NAdam, in place if out is (0, 0), and the sums of the new phase and of "
             "its squares. scores, flags and running, of which there are all or none, say which "
             "images are updated.");
}

}  // namespace fvfast
