// The bindings of the phase: to the image, back, and one step of the optimiser.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "bindings/phase_checks.h"
#include "bindings/target.h"
#include "ops.h"

namespace fvfast {
namespace {

void phase_spectrum(uintptr_t magnitude, uintptr_t phase, uintptr_t phase_sums, uintptr_t spectrum,
                    uintptr_t statistics, uintptr_t scratch, const std::string& dtype,
                    const std::vector<int64_t>& sizes, double epsilon) {
  const std::string name = "phase_spectrum";
  PhaseSpectrumParams params{};
  params.magnitude = reinterpret_cast<const void*>(magnitude);
  params.phase = reinterpret_cast<const void*>(phase);
  params.phase_sums = reinterpret_cast<const double*>(phase_sums);
  params.spectrum = reinterpret_cast<void*>(spectrum);
  params.statistics = reinterpret_cast<SpectrumStatistics*>(statistics);
  params.scratch = reinterpret_cast<double*>(scratch);
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  if (params.sizes.images == 0) return;
  require_address(name, "magnitude", magnitude);
  require_address(name, "phase", phase);
  require_address(name, "spectrum", spectrum);
  require_address(name, "statistics", statistics);
  require_address(name, "scratch", scratch);

  py::gil_scoped_release unlocked;
  cpu::phase_spectrum(params);
}

void spectrum_image(uintptr_t image, uintptr_t statistics, const std::string& dtype,
                    const std::vector<int64_t>& sizes, double epsilon, double low, double high,
                    const std::vector<std::vector<double>>& colors, const TargetArgument& target) {
  const std::string name = "spectrum_image";
  SpectrumImageParams params{};
  params.image = reinterpret_cast<void*>(image);
  params.statistics = reinterpret_cast<const SpectrumStatistics*>(statistics);
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  require_address(name, "image", image);
  require_address(name, "statistics", statistics);
  run_on(target, params, &cpu::spectrum_image, FVFAST_CUDA_LAUNCHER(spectrum_image));
}

void spectrum_image_gradient(uintptr_t gradient, uintptr_t image, uintptr_t out,
                             const std::string& dtype, const std::vector<int64_t>& sizes,
                             double low, double high,
                             const std::vector<std::vector<double>>& colors,
                             const TargetArgument& target) {
  const std::string name = "spectrum_image_gradient";
  SpectrumImageGradientParams params{};
  params.gradient = reinterpret_cast<const void*>(gradient);
  params.image = reinterpret_cast<const void*>(image);
  params.out = reinterpret_cast<void*>(out);
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  require_address(name, "gradient", gradient);
  require_address(name, "image", image);
  require_address(name, "out", out);
  run_on(target, params, &cpu::spectrum_image_gradient,
         FVFAST_CUDA_LAUNCHER(spectrum_image_gradient));
}

void phase_gradient(uintptr_t transform, uintptr_t spectrum, uintptr_t phase, uintptr_t statistics,
                    uintptr_t out, uintptr_t scratch, const std::string& dtype,
                    const std::vector<int64_t>& sizes, double epsilon) {
  const std::string name = "phase_gradient";
  PhaseGradientParams params{};
  params.transform = reinterpret_cast<const void*>(transform);
  params.spectrum = reinterpret_cast<const void*>(spectrum);
  params.phase = reinterpret_cast<const void*>(phase);
  params.statistics = reinterpret_cast<const SpectrumStatistics*>(statistics);
  params.out = reinterpret_cast<void*>(out);
  params.scratch = reinterpret_cast<double*>(scratch);
  params.dtype = real_of(name, "dtype", dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  if (params.sizes.images == 0) return;
  require_address(name, "transform", transform);
  require_address(name, "spectrum", spectrum);
  require_address(name, "phase", phase);
  require_address(name, "statistics", statistics);
  require_address(name, "out", out);
  require_address(name, "scratch", scratch);

  py::gil_scoped_release unlocked;
  cpu::phase_gradient(params);
}

// (scratch, statistics, (N, C, H, W), epsilon) of phase_image_gradient, without its end.
using UnfinishedArgument =
    std::optional<std::tuple<uintptr_t, uintptr_t, std::vector<int64_t>, double>>;

PhaseImageGradientParams unfinished_of(
    const std::string& name,
    const std::tuple<uintptr_t, uintptr_t, std::vector<int64_t>, double>& unfinished,
    const PhaseUpdateParams& update, const TargetArgument& target) {
  if (!target.has_value()) reject(name, "unfinished", "none on the CPU", "a gradient");
  const auto& [scratch, statistics, sizes, epsilon] = unfinished;
  require_address(name, "unfinished", scratch);
  require_address(name, "unfinished", statistics);
  PhaseImageGradientParams params{};
  params.scratch = reinterpret_cast<void*>(scratch);
  params.statistics = reinterpret_cast<const SpectrumStatistics*>(statistics);
  params.dtype = update.dtype;
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "unfinished", epsilon);
  if (params.sizes.images != update.images || params.sizes.bins() != update.elements) {
    reject(name, "unfinished", "the sizes of the phase", "others");
  }
  return params;
}

void phase_update(uintptr_t phase, uintptr_t gradient, uintptr_t momentum, uintptr_t square,
                  uintptr_t sums, uintptr_t scratch, const std::string& dtype,
                  const std::vector<int64_t>& sizes, const std::array<double, 2>& betas,
                  double gradient_rate, double momentum_rate, double correction, double epsilon,
                  uintptr_t rates, uintptr_t counter, const UnfinishedArgument& unfinished,
                  const TargetArgument& target) {
  const std::string name = "phase_update";
  PhaseUpdateParams params{};
  params.phase = reinterpret_cast<void*>(phase);
  params.gradient = reinterpret_cast<const void*>(gradient);
  params.momentum = reinterpret_cast<void*>(momentum);
  params.square = reinterpret_cast<void*>(square);
  params.sums = reinterpret_cast<double*>(sums);
  params.scratch = reinterpret_cast<double*>(scratch);
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
  require_address(name, "phase", phase);
  if (!unfinished.has_value()) require_address(name, "gradient", gradient);
  require_address(name, "momentum", momentum);
  require_address(name, "square", square);
  require_address(name, "sums", sums);
  if (!target.has_value()) require_address(name, "scratch", scratch);
  params.counter = counter_of(name, counter, target);
  params.rates = reinterpret_cast<const double*>(rates);
  if (counter != 0) require_address(name, "rates", rates);
  PhaseImageGradientParams gradient_params{};
  if (unfinished.has_value()) {
    gradient_params = unfinished_of(name, *unfinished, params, target);
    params.unfinished = &gradient_params;
  }
  run_on(target, params, &cpu::phase_update, FVFAST_CUDA_LAUNCHER(phase_update));
}

}  // namespace

void bind_phase(py::module_& module) {
  module.attr("SUM_PARTS") = kSumParts;
  module.attr("SUMS_PER_PART") = kSumsPerPart;
  module.def("phase_spectrum", &phase_spectrum, py::kw_only(), py::arg("magnitude"),
             py::arg("phase"), py::arg("phase_sums"), py::arg("spectrum"), py::arg("statistics"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             "spectrum = magnitude * exp(i standardised phase), and the "
             "image's mean and deviation; "
             "the address phase_sums may be 0.");
  module.def("spectrum_image", &spectrum_image, py::kw_only(), py::arg("image"),
             py::arg("statistics"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             py::arg("low"), py::arg("high"), py::arg("colors"), py::arg("target"),
             "Standardisation, colours, sigmoid and range of an image, in place.");
  module.def("spectrum_image_gradient", &spectrum_image_gradient, py::kw_only(),
             py::arg("gradient"), py::arg("image"), py::arg("out"), py::arg("dtype"),
             py::arg("sizes"), py::arg("low"), py::arg("high"), py::arg("colors"),
             py::arg("target"), "The gradient before the sigmoid and the colours.");
  module.def("phase_gradient", &phase_gradient, py::kw_only(), py::arg("transform"),
             py::arg("spectrum"), py::arg("phase"), py::arg("statistics"), py::arg("out"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             "The gradient of the phase from the transform of the gradient above.");
  module.def("phase_update", &phase_update, py::kw_only(), py::arg("phase"), py::arg("gradient"),
             py::arg("momentum"), py::arg("square"), py::arg("sums"), py::arg("scratch"),
             py::arg("dtype"), py::arg("sizes"), py::arg("betas"), py::arg("gradient_rate"),
             py::arg("momentum_rate"), py::arg("correction"), py::arg("epsilon"), py::arg("rates"),
             py::arg("counter"), py::arg("unfinished"), py::arg("target"),
             "One step of NAdam in place, and the sums of the new phase and of "
             "its squares.");
}

}  // namespace fvfast
