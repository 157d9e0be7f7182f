"""What follows a convolution on a GPU - bias, sum and activation - as separate calls, or fused.

As separate calls of torch, each of them reads and writes the whole output. On the CPU, oneDNN fuses
them with the convolution.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from fvfast.ops.convolution_epilogue import convolution_epilogue_

Activation = Literal["none", "relu", "relu6"]

EpilogueKind = Literal["separate", "fvfast", "cudnn"]

Settings = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]
"""Stride, padding, dilation and groups of a convolution."""

LIMITS: dict[Activation, tuple[float, float] | None] = {
    "none": None,
    "relu": (0, math.inf),
    "relu6": (0, 6),
}
"""Smallest and largest value that an activation returns."""


@dataclasses.dataclass(frozen=True)
class Epilogue:
    """How the epilogue of a convolution is run.

    Attributes
    ----------
    kind
        "separate": by torch's own calls; "fvfast": by `fvfast.ops.convolution_epilogue`, after
        torch's convolution; "cudnn": by cuDNN, together with the convolution.
    shape
        Of the images with which cuDNN's call was timed. Images of other shapes go to fvfast's
        kernel, because cuDNN chooses its algorithm by the shape, and has none for some.
    """

    kind: EpilogueKind = "separate"
    shape: tuple[int, ...] = ()

    def kind_for(self, images: torch.Tensor, activation: Activation) -> EpilogueKind:
        """Return the kind for images (B, in, H, W); an activation may be left to the network."""
        is_timed = tuple(images.shape) == self.shape and activation == "relu"
        return "fvfast" if self.kind == "cudnn" and not is_timed else self.kind


def convolve_and_finish(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    activation: Activation,
    settings: Settings,
) -> torch.Tensor:
    """Convolve without a bias, and let fvfast's kernel do the rest in one pass.

    Parameters
    ----------
    images
        (B, in, H, W).
    weight, bias
        (out, in / groups, height, width) and (out,).
    term
        Of the output's shape and type, or None.
    activation
        What is applied to the sum.
    settings
        Stride, padding, dilation and groups.
    """
    output = F.conv2d(images, weight, None, *settings)
    return convolution_epilogue_(output, bias, term=term, limits=LIMITS[activation])


def convolve_with_cudnn(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    settings: Settings,
) -> torch.Tensor:
    """Let cuDNN do everything in one call: see `convolve_and_finish`; the activation is ReLU.

    Raises
    ------
    RuntimeError
        cuDNN has no algorithm for it.
    """
    if term is None:
        return torch.ops.aten.cudnn_convolution_relu(images, weight, bias, *settings)
    return torch.ops.aten.cudnn_convolution_add_relu(images, weight, term, 1.0, bias, *settings)


def describe_epilogues(epilogues: Sequence[Epilogue | None]) -> str:
    """Count epilogues by what runs them, for people; None is a convolution without one."""
    kinds = [epilogue.kind for epilogue in epilogues if epilogue is not None]
    return (
        f"{kinds.count('fvfast')} fused by fvfast, {kinds.count('cudnn')} by cuDNN, "
        f"{kinds.count('separate')} separate"
    )
