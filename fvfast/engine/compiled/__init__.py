"""Compiles a network with TorchInductor, the compiler of `torch.compile`, for long runs."""
