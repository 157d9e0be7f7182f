"""Phases that begin with those of a photograph, under a fixed magnitude."""

import functools
from collections.abc import Sequence

import torch

from fvfast.ops.colors import recorrelate_colors
from fvfast.ops.reference.phase import half_spectrum_image
from fvfast.parametrizations.base import Differentiated
from fvfast.parametrizations.optimizers import OptimizerSpec, keras_nadam
from fvfast.parametrizations.starts import phase_of


class PhotographPhase(Differentiated):
    """The phases of N images under one magnitude, which begin with those of a photograph.

    `Phase` standardizes phases before use. Those of a photograph have a standard deviation of 1.8,
    so no standardized phase is theirs; here phases are used as they are.

    Parameters
    ----------
    magnitude
        (C, H, W // 2 + 1).
    pixels
        (C, H, W): the photograph as `fvfast.parametrizations.starts.unbounded_pixels` has it.
    count
        N.
    optimizer
        See `fvfast.maco`. Default: `KerasNadam` with learning rate 1.
    values_range
        (low, high) of the images.
    """

    def __init__(
        self,
        magnitude: torch.Tensor,
        pixels: torch.Tensor,
        count: int,
        optimizer: OptimizerSpec,
        values_range: Sequence[float],
    ) -> None:
        state = phase_of(pixels).expand(count, -1, -1, -1).to(magnitude.device, copy=True)
        to_valid = functools.partial(squeezed, values_range=values_range)
        super().__init__(state, to_valid, keras_nadam if optimizer is None else optimizer)
        self._magnitude = magnitude
        self._width = pixels.shape[-1]

    def pixels(self) -> torch.Tensor:
        """Return the inverse transform, standardized."""
        return half_spectrum_image(self._magnitude, self.state, self._width)


def squeezed(pixels: torch.Tensor, values_range: Sequence[float]) -> torch.Tensor:
    """Return images (..., C, H, W) of unbounded pixels: colors, where there are 3, and a sigmoid.

    Parameters
    ----------
    pixels
        (..., C, H, W).
    values_range
        (low, high) of the images.
    """
    low, high = values_range
    colored = recorrelate_colors(pixels) if pixels.shape[-3] == 3 else pixels
    return colored.sigmoid() * (high - low) + low
