// One function for each op adds its binding to the module.
//
// A binding checks every argument, fills the struct of its op, releases the interpreter lock and
// calls the launcher. Only the files of this folder and bindings.cpp know of Python.
#pragma once

#include <pybind11/pybind11.h>

namespace fvfast {

void bind_boxes(pybind11::module_& module);
void bind_convolution_epilogue(pybind11::module_& module);
void bind_crop(pybind11::module_& module);
void bind_noise(pybind11::module_& module);
void bind_phase(pybind11::module_& module);
void bind_phase_cuda(pybind11::module_& module);
void bind_pyramid(pybind11::module_& module);
void bind_step_end(pybind11::module_& module);
void bind_winograd(pybind11::module_& module);

}  // namespace fvfast
