"""What a step learns about the gradient of each image, as bits of an int32 tensor (N,)."""

import torch

GRADIENT_NOT_FINITE = 1
"""One of its values is not finite."""

GRADIENT_NOT_ZERO = 2
"""One of its values is not zero; NaN counts."""


def add_gradient_flags(flags: torch.Tensor, gradient: torch.Tensor) -> None:
    """Add what a gradient (N, ...) shows to flags (N,), in PyTorch."""
    flat = gradient.flatten(1)
    not_finite = flat.isfinite().logical_not().any(1)
    found = not_finite.int() * GRADIENT_NOT_FINITE + flat.ne(0).any(1).int() * GRADIENT_NOT_ZERO
    flags.bitwise_or_(found)


def may_be_updated(
    running: torch.Tensor, scores: torch.Tensor, flags: torch.Tensor
) -> torch.Tensor:
    """Say which images (N,) run, and have a finite score and a finite gradient."""
    return running & scores.isfinite() & flags.bitwise_and(GRADIENT_NOT_FINITE).eq(0)
