"""Every operation in plain PyTorch, written to be read: any floating-point type, any device.

It is what the kernels are tested against, what runs where there is no kernel, and the baseline of
the benchmarks. Arithmetic is float32, or float64 for float64; results are rounded once, at the end.
"""
