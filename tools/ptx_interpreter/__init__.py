"""Runs the PTX into which nvcc compiles CUDA kernels, on the CPU: see README.md."""

from ptx_interpreter.compiler import compile_ptx, find_nvcc
from ptx_interpreter.errors import PtxError
from ptx_interpreter.module import Kernel, Memory, Module, Parameter

__all__ = ["Kernel", "Memory", "Module", "Parameter", "PtxError", "compile_ptx", "find_nvcc"]
