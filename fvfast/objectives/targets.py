"""Reads the targets a user names - channels, neurons, directions - against a layer's shape."""

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import nn

from fvfast._shared.checks import is_number
from fvfast.engine.network.categories import class_index, find_categories
from fvfast.engine.network.layers import Layer
from fvfast.files.dictionaries import Dictionary

Ids = int | Iterable[int]
Units = int | Iterable[int] | Iterable[Sequence[int]]

_LISTED = 10


def as_ids(ids: Ids, argument: str) -> list[int]:
    """Read one index or any collection of them."""
    try:
        if isinstance(ids, (torch.Tensor, np.ndarray)):
            ids = ids.tolist()
        indices = [ids] if isinstance(ids, SupportsIndex) else list(ids)
        if any(isinstance(index, bool) for index in indices):
            raise TypeError(
                f"{argument} takes indices, not a mask of booleans: use numpy.flatnonzero(mask)."
            )
        return [operator.index(index) for index in indices]
    except TypeError as error:
        if "booleans" in str(error):
            raise
        raise TypeError(
            f"{argument} must be an int or a collection of ints, got {ids!r}."
        ) from error


def as_units(ids: Units, axes: int) -> list[int | tuple[int, ...]]:
    """Read neurons: flat indices, or tuples of coordinates."""
    if isinstance(ids, (torch.Tensor, np.ndarray)):
        ids = ids.tolist()
    if isinstance(ids, tuple) and 1 < axes == len(ids) and all(is_number(i) for i in ids):
        return [tuple(as_ids(ids, "neurons_ids"))]
    if isinstance(ids, SupportsIndex) or not isinstance(ids, Iterable):
        return [*as_ids(ids, "neurons_ids")]
    return [
        tuple(as_ids(unit, "neurons_ids"))
        if isinstance(unit, Sequence)
        else as_ids([unit], "neurons_ids")[0]
        for unit in ids
    ]


def named_classes(ids: Any, layer: Layer, model: nn.Module) -> dict[str, int] | None:
    """Read names of classes: their indices by name; None if the ids are not names.

    Raises
    ------
    ValueError
        The model carries no names, has no class of this name, or the layer is not its output.
    """
    names = [ids] if isinstance(ids, str) else ids
    if not (isinstance(names, (list, tuple)) and any(isinstance(one, str) for one in names)):
        return None
    owner = f"the model ({type(model).__name__})"
    categories = find_categories(model)
    if categories is None:
        raise ValueError(_unnamed(ids, owner))
    if layer.shape != (len(categories),):
        raise ValueError(
            f"neurons_ids: names of classes mean the {len(categories)} outputs of {owner}, but "
            f"layer {layer.name!r} has an output of {layer.shape}."
        )
    indices = [class_index(str(one), categories, owner) for one in names]
    return {categories[index]: index for index in indices}


def _unnamed(ids: Any, owner: str) -> str:
    """Say what to give instead of names to a model that carries none."""
    names = [ids] if isinstance(ids, str) else [one for one in ids if isinstance(one, str)]
    are = "is the name of a class" if len(names) == 1 else "are names of classes"
    indices = "its index" if len(names) == 1 else "their indices"
    listed = ", ".join(map(repr, names[:_LISTED])) + (" ..." if len(names) > _LISTED else "")
    if names[0].strip().isdecimal():
        indices += f", without quotes as in {names[0].strip()}"
    return (
        f"neurons_ids: {listed} {are}, but {owner} carries none. Give {indices}, or give the model "
        "the names: model.categories = [...]. ImageNet's are in torchvision: "
        "pip install 'fvfast[torchvision]', and fvfast.models.load_model gives its networks "
        "their names; for others, fvfast.models.imagenet_categories() lists them."
    )


def read_directions(vectors: Any, layer: Layer, channel_axis: int) -> list[torch.Tensor]:
    """Read one vector or several: a list, a tuple, an array (N, C), or a dictionary.

    Returns
    -------
    directions
        N tensors that broadcast to the layer's output.

    Raises
    ------
    TypeError, ValueError
        See `fvfast.Objective.direction`.
    """
    if isinstance(vectors, Dictionary):
        return _rows(vectors.directions, layer, channel_axis)
    if isinstance(vectors, (list, tuple)):
        return [_direction(vector, layer, channel_axis) for vector in vectors]
    shape = tuple(getattr(vectors, "shape", ()))
    if len(shape) == 2 and shape != layer.shape:
        return _rows(_as_tensor(vectors), layer, channel_axis)
    return [_direction(vectors, layer, channel_axis)]


def _rows(directions: torch.Tensor, layer: Layer, channel_axis: int) -> list[torch.Tensor]:
    """Read an array (N, C), all rows at once: there may be tens of thousands."""
    channels = layer.shape[channel_axis]
    count, width = directions.shape
    if width != channels:
        raise ValueError(
            f"the {count} directions have {width} channels each, and layer {layer.name!r} has "
            f"{channels} (its output is {layer.shape}); expected directions (N, {channels})."
        )
    bad = ~(directions.isfinite().all(1) & directions.any(1))
    if bool(bad.any()):
        rows = bad.nonzero()[:, 0].tolist()
        listed = ", ".join(map(str, rows[:_LISTED])) + (" ..." if len(rows) > _LISTED else "")
        raise ValueError(
            f"a direction of layer {layer.name!r} must be finite and not zero; of {count}, "
            f"{len(rows)} {'is' if len(rows) == 1 else 'are'} not (counted from 0): {listed}. "
            "Leave them out."
        )
    return list(directions.view(-1, *_broadcast(layer, channel_axis)))


def check_index(index: int, size: int, what: str) -> int:
    """Return the index counted from 0; raise ValueError when it is out of range."""
    if not -size <= index < size:
        raise ValueError(
            f"{what}: index {index} is out of range for size {size} (0 to {size - 1})."
        )
    return index % size


def neuron_coordinates(unit: int | tuple[int, ...], layer: Layer) -> tuple[int, ...]:
    """Coordinates of a neuron given by its flat index or by (possibly negative) coordinates."""
    what = f"neuron of layer {layer.name!r} with output {layer.shape}"
    if isinstance(unit, int):
        flat = check_index(unit, math.prod(layer.shape), what)
        return tuple(int(i) for i in np.unravel_index(flat, layer.shape))
    if len(unit) != len(layer.shape):
        raise ValueError(
            f"{what}: expected a flat index or {len(layer.shape)} coordinates, got {unit}."
        )
    return tuple(
        check_index(index, size, what) for index, size in zip(unit, layer.shape, strict=True)
    )


def position_of(position: Any, layer: Layer, channel_axis: int) -> tuple[int, ...]:
    """Return the coordinates of a position of a layer, counted from 0; the middle for None.

    Raises
    ------
    TypeError
        The coordinates are not integers.
    ValueError
        They are out of range, or of another number than the axes besides that of the channels.
    """
    sizes = [size for axis, size in enumerate(layer.shape) if axis != channel_axis]
    if position is None:
        return tuple(size // 2 for size in sizes)
    place = as_ids(position, "position")
    if len(place) != len(sizes):
        raise ValueError(
            f"position: layer {layer.name!r} has an output of {layer.shape} with its channels on "
            f"axis {channel_axis}: expected {len(sizes)} coordinates, got {tuple(place)}."
        )
    what = f"position of layer {layer.name!r} with output {layer.shape}"
    return tuple(check_index(index, size, what) for index, size in zip(place, sizes, strict=True))


def find_channel_axis(layer: Layer, axis: int | None) -> int:
    """Axis of the channels: the one given, else the one inferred from the network.

    If none was inferred, outputs with one or two axes have the channels on the last one, as tokens
    (T, C) have.

    Raises
    ------
    ValueError
        There is no such axis, or several are possible.
    """
    shape = layer.shape
    if not shape:
        raise ValueError(
            "the layer puts out one number per image and has no channels; use Objective.layer with "
            "reducer='mean'."
        )
    if axis is not None:
        return check_index(axis, len(shape), f"channel_axis of an output {shape}")
    if layer.channel_axis is not None:
        return layer.channel_axis
    if len(shape) > 2:
        choices = ", ".join(f"{index} ({size})" for index, size in enumerate(shape))
        raise ValueError(
            f"which axis of the output {shape} of layer {layer.name!r} holds the channels cannot "
            f"be seen from the layers around it: pass channel_axis= (--channel-axis), one of "
            f"{choices}."
        )
    return len(shape) - 1


def _as_tensor(vector: Any) -> torch.Tensor:
    try:
        # On the CPU, whatever the default device is.
        return torch.as_tensor(vector, device="cpu").detach().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"a direction must be a tensor or an array, got {type(vector).__name__}."
        ) from error


def _direction(vector: Any, layer: Layer, channel_axis: int) -> torch.Tensor:
    """Bring a direction into a shape that broadcasts to the layer's output."""
    direction = _as_tensor(vector)
    channels = layer.shape[channel_axis]
    if tuple(direction.shape) != layer.shape and tuple(direction.shape) != (channels,):
        scalar = direction.ndim == 0
        raise ValueError(
            f"a direction of layer {layer.name!r} has the shape of its output {layer.shape} or "
            f"({channels},); got {tuple(direction.shape)}."
            + (" A list holds several directions: pass one as a tensor." if scalar else "")
        )
    if not bool(torch.isfinite(direction).all()) or not bool(direction.any()):
        raise ValueError(f"a direction of layer {layer.name!r} must be finite and not zero.")
    if tuple(direction.shape) == layer.shape:
        return direction
    return direction.view(_broadcast(layer, channel_axis))


def _broadcast(layer: Layer, channel_axis: int) -> list[int]:
    """Shape of a vector of channels that broadcasts to the layer's output."""
    return [size if axis == channel_axis else 1 for axis, size in enumerate(layer.shape)]
