"""Reads photographs as images that a network takes, and the activations that they cause."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.network.layers import Layer, Preprocess
from fvfast.engine.passes import run_views
from fvfast.engine.taps import TappedModel
from fvfast.spectrum.photograph import PhotographSource, read_photograph

Photographs = PhotographSource | Sequence[PhotographSource]


def read_photographs(
    photographs: Photographs,
    shape: tuple[int, int, int],
    values_range: tuple[float, float],
    function: str,
) -> tuple[torch.Tensor, list[str]]:
    """Read one photograph or several: (P, C, H, W), and what each is called.

    Parameters
    ----------
    photographs
        See `fvfast.Objective.inversion`.
    shape, values_range, function
        See `read_photograph`.
    """
    several: Sequence[Any]
    if isinstance(photographs, (list, tuple)) or getattr(photographs, "ndim", 0) == 4:
        several = list(photographs)  # type: ignore[arg-type]
    else:
        several = [photographs]
    if not several:
        raise ValueError("photograph: expected one or several, got an empty list.")
    images = torch.stack([read_photograph(one, shape, values_range, function) for one in several])
    names = [
        Path(one).stem if isinstance(one, (str, os.PathLike)) else str(index)
        for index, one in enumerate(several)
    ]
    return images, names


def activations_of(
    images: torch.Tensor, model: nn.Module, layer: Layer, preprocess: Preprocess | None
) -> list[torch.Tensor]:
    """Run images through a network, which comes back as it was: a layer's output for each.

    Raises
    ------
    ValueError
        An activation is not finite.
    """
    tapped = TappedModel(model, [layer], preprocess)
    outputs = []
    with torch.inference_mode(False), torch.no_grad(), borrowed(model) as device:
        for image in images:
            # One at a time: the memory that is needed does not grow with their number. A network
            # that draws random numbers draws the same ones for each, and none of the user's.
            with drawn_from(0, 0, device):
                (output,) = run_views(tapped, image[None].to(device))
            outputs.append(output[0].float().cpu())
    for index, output in enumerate(outputs):
        if not bool(output.isfinite().all()):
            raise ValueError(
                f"layer {layer.name!r} puts out numbers that are not finite for photograph {index} "
                "(counted from 0)."
            )
    return outputs
