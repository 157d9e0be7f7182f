"""Measures how the activations of layers are distributed in images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.network.layers import Layer
from fvfast.engine.passes import run_views
from fvfast.engine.taps import TappedModel
from fvfast.objectives.objective import Objective
from fvfast.objectives.targets import find_channel_axis
from fvfast.spectrum.photographs import PhotographFolder
from fvfast.transformations.reduction import resize_whole

_BATCH = 16

_CONSTANT = 1e-3
"""Share of a layer's mean deviation below which a channel counts as constant."""


def measure_layers(
    objective: Objective,
    layers: Sequence[Layer],
    images: str | os.PathLike[str] | torch.Tensor | Iterable[Any],
    *,
    values_range: tuple[float, float],
    device: torch.device | str | None,
    progress: bool,
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], int]:
    """Measure sorted activations and deviations of layers.

    Parameters
    ----------
    objective
        Tells the network, the size of its images and how they are prepared.
    layers
        The layers.
    images, values_range, device, progress
        See `Guide.from_images`.

    Returns
    -------
    statistics
        For each layer: the activations of each channel, sorted and averaged over the images (C, D),
        and their deviations (C,), which are above 0.
    count
        How many images there were.

    Raises
    ------
    ValueError
        There is no image, or one that is not finite or of another number of channels;
        or activations are not finite.
    TypeError
        An item is no tensor.
    """
    tapped = TappedModel(objective.model, layers, objective.preprocess)
    sums = [_Sums(find_channel_axis(layer, None)) for layer in layers]
    count = 0
    batches = _batches(images, objective.image_shape, values_range, progress=progress)
    # Also within a user's inference mode, whose tensors the network would remember.
    with torch.inference_mode(False), torch.no_grad(), borrowed(objective.model, device) as place:
        for index, batch in enumerate(batches):
            # What a network draws is the same each time, and none of the user's.
            with drawn_from(0, index, place):
                outputs = run_views(tapped, batch.to(place))
            for layer, total, output in zip(layers, sums, outputs, strict=True):
                _check_finite(layer, output)
                total.add(output)
            count += len(batch)
    if not count:
        raise ValueError("Guide.from_images: there is no image; expected at least one.")
    return [total.statistics(count) for total in sums], count


def _check_finite(layer: Layer, output: torch.Tensor) -> None:
    if not bool(output.isfinite().all()):
        raise ValueError(
            f"Guide.from_images: layer {layer.name!r} puts out numbers that are not finite for "
            "these images. Check the images, values_range and the network, or name other layers."
        )


class _Sums:
    """Adds up the activations of a layer over images."""

    def __init__(self, channel_axis: int) -> None:
        self._channel_axis = channel_axis
        self._ranked: torch.Tensor | None = None
        self._squares: torch.Tensor | None = None

    def add(self, output: torch.Tensor) -> None:
        """Add the activations of some images."""
        values = output.movedim(self._channel_axis + 1, 1).flatten(2).double().cpu()
        ranked, squares = values.sort(-1).values.sum(0), values.square().sum((0, 2))
        self._ranked = ranked if self._ranked is None else self._ranked + ranked
        self._squares = squares if self._squares is None else self._squares + squares

    def statistics(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sorted activations (C, D) and deviations (C,) of so many images."""
        assert self._ranked is not None
        assert self._squares is not None
        ranked = self._ranked / count
        mean_squares = self._squares / (count * ranked.shape[1])
        variances = (mean_squares - ranked.mean(1).square()).clamp(min=0)
        return ranked.float(), above_zero(variances.sqrt()).float()


def above_zero(deviations: torch.Tensor) -> torch.Tensor:
    """Raise the deviations of constant channels, which would count without bounds."""
    smallest = (_CONSTANT * deviations.mean()).clamp(min=torch.finfo(torch.float32).tiny)
    return deviations.clamp(min=smallest.item())


def _batches(
    images: Any,
    shape: tuple[int, int, int],
    values_range: tuple[float, float],
    *,
    progress: bool,
) -> Iterator[torch.Tensor]:
    """Yield images (N, C, h, w) as the network takes them, before its preprocessing."""
    channels, *size = shape
    height, width = size
    if isinstance(images, str | os.PathLike):
        low, high = values_range
        for batch in PhotographFolder(images, (height, width), channels, progress):
            yield batch * (high - low) + low
        return
    if not isinstance(images, Iterable):
        raise _of_other_type(images)
    for item in images.split(_BATCH) if isinstance(images, torch.Tensor) else images:
        if not isinstance(item, torch.Tensor):
            raise _of_other_type(item)
        batch = item[None] if item.ndim == 3 else item
        if batch.ndim != 4 or batch.shape[1] != channels:
            raise ValueError(
                f"Guide.from_images: images have shape {tuple(item.shape)}; expected (N, "
                f"{channels}, H, W)."
            )
        if not bool(batch.isfinite().all()):
            raise ValueError("Guide.from_images: an image has values that are not finite.")
        yield resize_whole(_scaled(batch, values_range), (height, width))


def _scaled(images: torch.Tensor, values_range: tuple[float, float]) -> torch.Tensor:
    """Return images as float32; 8-bit values are scaled to the range, as those of photographs."""
    if images.dtype != torch.uint8:
        return images.float()
    low, high = values_range
    return images.float() / 255 * (high - low) + low


def _of_other_type(item: Any) -> TypeError:
    return TypeError(
        f"Guide.from_images: an image is of type {type(item).__name__}; expected a folder, or "
        "tensors (N, C, H, W) or (C, H, W) of 8-bit values or in values_range."
    )
