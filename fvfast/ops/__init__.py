"""Fused operations, each with a reference in PyTorch and a kernel where there is one."""

from fvfast.ops.noise import inject_noise, inject_noise_

__all__ = ["inject_noise", "inject_noise_"]
