"""Whether two ways to run a network come to the same results, and how far apart they may be."""

import math
from collections.abc import Sequence

import torch

SAME = 1e-3
"""Largest difference between two forms in the network's own type, relative to its outputs.

Rounding in float32 makes a far smaller difference; an operation left out or done twice, a far
larger one.
"""

SIMILAR = 0.1
"""Largest difference of forms in a 16-bit type, which the network rounds in each operation."""

ALIKE = 0.9
"""Smallest likeness of gradients with which two forms agree, see `likeness`."""

GAIN = 0.95
"""Largest share of another form's time that a form may take, to be worth what is different."""


def largest_difference(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest relative difference of tensors, in the norm; infinite if not finite."""
    differences = [_difference(*pair) for pair in zip(actual, expected, strict=True)]
    # Not max alone: with a NaN among its arguments, it may return another of them.
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def likeness(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the cosine similarity of two gradients times the ratio (<= 1) of their norms."""
    one, other = actual.flatten().double(), expected.flatten().double()
    largest = max(float(one.norm()), float(other.norm()))
    if largest == 0:
        return 1.0
    # This equals <one, other> / (norm * norm) * min(norms) / max(norms). The division comes first
    # because a product of two small gradients may underflow.
    return float((one / largest) @ (other / largest))


def random_like(output: torch.Tensor) -> torch.Tensor:
    """Draw numbers of the shape, type and memory format of a tensor, from no global generator."""
    generator = torch.Generator("cpu").manual_seed(0)
    numbers = torch.randn(output.shape, generator=generator, device="cpu")
    return torch.empty_like(output, requires_grad=False).copy_(numbers)


def _difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the difference relative to ``expected``; 0 if both are 0."""
    error = (actual.double() - expected.double()).norm()
    return float(error / expected.double().norm()) if bool(error > 0) else float(error)
