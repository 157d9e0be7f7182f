"""Checks and measurements on an NVIDIA GPU, in stages that lose nothing if they are killed.

`benchmarks.gpu_quick` and `benchmarks.gpu_check` are the two commands; docs/gpu.md describes them.
"""
