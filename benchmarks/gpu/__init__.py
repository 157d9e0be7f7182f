"""Checks and measurements on an NVIDIA GPU, in stages that lose nothing when they are cut off.

`benchmarks.gpu_quick` and `benchmarks.gpu_check` are the two commands; docs/gpu.md describes them.
"""
