// The bindings of the phase: to the image, back, and one step of the optimiser.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "bindings/bind.h"
#include "bindings/checks.h"
#include "ops.h"

namespace fvfast {
namespace {

DType real_of(const std::string& function, const std::string& name) {
  if (name != "float32" && name != "float64") {
    reject(function, "dtype", "float32 or float64", name);
  }
  return name == "float32" ? DType::kFloat32 : DType::kFloat64;
}

// Checks sizes of which the product of all but zeros must fit the arithmetic of addresses.
void check_sizes(const std::string& function, const std::vector<int64_t>& sizes, size_t dims,
                 const std::string& names) {
  if (sizes.size() != dims) {
    reject(function, "sizes", names, std::to_string(sizes.size()) + " sizes");
  }
  constexpr int64_t kMaxElements = int64_t{1} << 48;
  int64_t elements = 1;
  for (size_t d = 0; d < dims; ++d) {
    if (sizes[d] < (d == 0 ? 0 : 1)) {
      reject(function, "sizes", names + ", at least one of each, and no image at least",
             std::to_string(sizes[d]));
    }
    if (sizes[d] > 0 && elements > kMaxElements / sizes[d]) {
      reject(function, "sizes", "at most 2^48 elements", "more");
    }
    elements *= std::max<int64_t>(sizes[d], 1);
  }
}

SpectrumSizes sizes_of(const std::string& function, const std::vector<int64_t>& sizes) {
  check_sizes(function, sizes, 4, "(N, C, H, W)");
  return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

double finite_of(const std::string& function, const std::string& argument, double value) {
  if (!std::isfinite(value)) reject(function, argument, "a finite number", std::to_string(value));
  return value;
}

// Fills the fields that turn colours into an image, and back.
template <typename Params>
void set_colors(const std::string& function, const std::vector<std::vector<double>>& colors,
                double low, double high, Params* params) {
  params->low = finite_of(function, "low", low);
  params->high = finite_of(function, "high", high);
  if (!(low < high)) {
    reject(function, "high", "a number above low, " + std::to_string(low), std::to_string(high));
  }
  params->has_colors = !colors.empty();
  if (colors.empty()) return;
  if (params->sizes.channels != 3) {
    reject(function, "colors", "none, as there are not 3 channels",
           std::to_string(colors.size()) + " rows");
  }
  bool fits = colors.size() == 3;
  for (const std::vector<double>& row : colors) fits = fits && row.size() == 3;
  if (!fits) reject(function, "colors", "3 rows of 3 numbers", "another shape");
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      params->colors[i][j] = finite_of(function, "colors", colors[i][j]);
    }
  }
}

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
  params.dtype = real_of(name, dtype);
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
                    const std::vector<std::vector<double>>& colors) {
  const std::string name = "spectrum_image";
  SpectrumImageParams params{};
  params.image = reinterpret_cast<void*>(image);
  params.statistics = reinterpret_cast<const SpectrumStatistics*>(statistics);
  params.dtype = real_of(name, dtype);
  params.sizes = sizes_of(name, sizes);
  params.epsilon = scale_of(name, "epsilon", epsilon);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  require_address(name, "image", image);
  require_address(name, "statistics", statistics);

  py::gil_scoped_release unlocked;
  cpu::spectrum_image(params);
}

void spectrum_image_gradient(uintptr_t gradient, uintptr_t image, uintptr_t out,
                             const std::string& dtype, const std::vector<int64_t>& sizes,
                             double low, double high,
                             const std::vector<std::vector<double>>& colors) {
  const std::string name = "spectrum_image_gradient";
  SpectrumImageGradientParams params{};
  params.gradient = reinterpret_cast<const void*>(gradient);
  params.image = reinterpret_cast<const void*>(image);
  params.out = reinterpret_cast<void*>(out);
  params.dtype = real_of(name, dtype);
  params.sizes = sizes_of(name, sizes);
  set_colors(name, colors, low, high, &params);
  if (params.sizes.images == 0) return;
  require_address(name, "gradient", gradient);
  require_address(name, "image", image);
  require_address(name, "out", out);

  py::gil_scoped_release unlocked;
  cpu::spectrum_image_gradient(params);
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
  params.dtype = real_of(name, dtype);
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

void phase_update(uintptr_t phase, uintptr_t gradient, uintptr_t momentum, uintptr_t square,
                  uintptr_t sums, uintptr_t scratch, const std::string& dtype,
                  const std::vector<int64_t>& sizes, const std::array<double, 2>& betas,
                  double gradient_rate, double momentum_rate, double correction, double epsilon) {
  const std::string name = "phase_update";
  PhaseUpdateParams params{};
  params.phase = reinterpret_cast<void*>(phase);
  params.gradient = reinterpret_cast<const void*>(gradient);
  params.momentum = reinterpret_cast<void*>(momentum);
  params.square = reinterpret_cast<void*>(square);
  params.sums = reinterpret_cast<double*>(sums);
  params.scratch = reinterpret_cast<double*>(scratch);
  params.dtype = real_of(name, dtype);
  check_sizes(name, sizes, 2, "(images, elements of each)");
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
  require_address(name, "gradient", gradient);
  require_address(name, "momentum", momentum);
  require_address(name, "square", square);
  require_address(name, "sums", sums);
  require_address(name, "scratch", scratch);

  py::gil_scoped_release unlocked;
  cpu::phase_update(params);
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
             py::arg("low"), py::arg("high"), py::arg("colors"),
             "Standardisation, colours, sigmoid and range of an image, in place.");
  module.def("spectrum_image_gradient", &spectrum_image_gradient, py::kw_only(),
             py::arg("gradient"), py::arg("image"), py::arg("out"), py::arg("dtype"),
             py::arg("sizes"), py::arg("low"), py::arg("high"), py::arg("colors"),
             "The gradient before the sigmoid and the colours.");
  module.def("phase_gradient", &phase_gradient, py::kw_only(), py::arg("transform"),
             py::arg("spectrum"), py::arg("phase"), py::arg("statistics"), py::arg("out"),
             py::arg("scratch"), py::arg("dtype"), py::arg("sizes"), py::arg("epsilon"),
             "The gradient of the phase from the transform of the gradient above.");
  module.def("phase_update", &phase_update, py::kw_only(), py::arg("phase"), py::arg("gradient"),
             py::arg("momentum"), py::arg("square"), py::arg("sums"), py::arg("scratch"),
             py::arg("dtype"), py::arg("sizes"), py::arg("betas"), py::arg("gradient_rate"),
             py::arg("momentum_rate"), py::arg("correction"), py::arg("epsilon"),
             "One step of NAdam in place, and the sums of the new phase and of "
             "its squares.");
}

}  // namespace fvfast
