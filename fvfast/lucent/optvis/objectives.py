"""What is optimized for: Lucent's ``objectives``.

Each function returns an `Objective`, a loss: it is minimized, so an activation counts negative.
Those with an argument ``batch`` look at one image of the batch, all others at all of them.
"""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

from typing import Any

import torch
from torch.nn import functional

from fvfast.lucent.optvis.activations import ChannelVector, area, channel_of, position
from fvfast.lucent.optvis.batches import alignment as alignment
from fvfast.lucent.optvis.batches import channel_interpolate as channel_interpolate
from fvfast.lucent.optvis.batches import diversity as diversity
from fvfast.lucent.optvis.blur import blur_input_each_step as blur_input_each_step
from fvfast.lucent.optvis.objective import Features, ObjectiveFunction, own_objective
from fvfast.lucent.optvis.objective import Objective as Objective
from fvfast.lucent.optvis.objective import handle_batch as handle_batch
from fvfast.lucent.optvis.objective import wrap_objective as wrap_objective


@own_objective
def neuron(
    layer: str, n_channel: int, x: int | None = None, y: int | None = None, batch: int | None = None
) -> ObjectiveFunction:
    """Make one neuron of a channel active.

    Parameters
    ----------
    layer
        Name of a layer with height and width.
    n_channel
        Index of the channel.
    x, y
        Column and row. Default: the middle; of an even number, the second of the middle two.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the activation, averaged over the images.
    """

    @handle_batch(batch)
    def loss(T: Features) -> torch.Tensor:
        return -channel_of(position(T(layer), layer, x, y), layer, n_channel).mean()

    return loss


@own_objective
def channel(layer: str, n_channel: int, batch: int | None = None) -> ObjectiveFunction:
    """Make a channel active.

    Parameters
    ----------
    layer
        Name of a layer.
    n_channel
        Index of the channel.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the mean of the channel.
    """

    @handle_batch(batch)
    def loss(T: Features) -> torch.Tensor:
        return -channel_of(T(layer), layer, n_channel).mean()

    return loss


@own_objective
def neuron_weight(
    layer: str, weight: Any, x: int | None = None, y: int | None = None, batch: int | None = None
) -> ObjectiveFunction:
    """Make a weighted sum of the channels at one position active.

    Parameters
    ----------
    layer
        Name of a layer with height and width.
    weight
        (C,), a weight for each channel; None for 1.
    x, y
        Column and row. Default: as in `neuron`.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the mean of the products over channels and images.
    """
    return _weighted(lambda acts: position(acts, layer, x, y), layer, weight, batch)


@own_objective
def channel_weight(layer: str, weight: Any, batch: int | None = None) -> ObjectiveFunction:
    """Make a weighted sum of the channels active.

    Parameters
    ----------
    layer
        Name of a layer.
    weight
        (C,), a weight for each channel.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the mean of the products over the whole layer.
    """
    return _weighted(lambda acts: acts, layer, weight, batch)


@own_objective
def localgroup_weight(
    layer: str,
    weight: Any = None,
    x: int | None = None,
    y: int | None = None,
    wx: int = 1,
    wy: int = 1,
    batch: int | None = None,
) -> ObjectiveFunction:
    """Make a weighted sum of the channels active in a rectangle.

    Parameters
    ----------
    layer
        Name of a layer with height and width.
    weight
        (C,), a weight for each channel; None for 1.
    x, y
        Column and row at which the rectangle begins. Default: the middle.
    wx, wy
        Width and height of the rectangle.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the mean of the products over the rectangle.
    """
    return _weighted(lambda acts: area(acts, layer, x, y, wx, wy), layer, weight, batch)


def _weighted(part: Any, layer: str, weight: Any, batch: int | None) -> ObjectiveFunction:
    vector = None if weight is None else ChannelVector(weight, "weight")

    @handle_batch(batch)
    def loss(T: Features) -> torch.Tensor:
        activations = part(T(layer))
        if vector is None:
            return -activations.mean()
        return -(activations * vector.beside(activations, layer)).mean()

    return loss


@own_objective
def direction(layer: str, direction: Any, batch: int | None = None) -> ObjectiveFunction:
    """Turn the activations at all positions toward a direction.

    Parameters
    ----------
    layer
        Name of a layer.
    direction
        (C,), a number for each channel.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the cosine of the angle between direction and activations, averaged over positions.
    """
    return _cosine(lambda acts: acts, layer, direction, batch)


@own_objective
def direction_neuron(
    layer: str,
    direction: Any,
    x: int | None = None,
    y: int | None = None,
    batch: int | None = None,
) -> ObjectiveFunction:
    """Turn the activations at one position toward a direction.

    Parameters
    ----------
    layer
        Name of a layer with height and width.
    direction
        (C,), a number for each channel.
    x, y
        Column and row. Default: as in `neuron`.
    batch
        Index of an image; None for all.

    Returns
    -------
    objective
        Minus the cosine of the angle between direction and activations.
    """
    return _cosine(lambda acts: position(acts, layer, x, y), layer, direction, batch)


def _cosine(part: Any, layer: str, direction: Any, batch: int | None) -> ObjectiveFunction:
    vector = ChannelVector(direction, "direction")

    @handle_batch(batch)
    def loss(T: Features) -> torch.Tensor:
        activations = part(T(layer))
        other = vector.beside(activations, layer)
        return -functional.cosine_similarity(other, activations, dim=1).mean()

    return loss


def as_objective(obj: Any) -> Objective:
    """Read an objective in any of its forms.

    Parameters
    ----------
    obj
        "layer:channel", such as "layer4_2:10"; an objective; or a function of T that returns a
        loss.

    Returns
    -------
    objective
        The objective.

    Raises
    ------
    TypeError, ValueError
        It is none of these.
    """
    if isinstance(obj, Objective):
        return obj
    if callable(obj):
        name = getattr(obj, "__name__", type(obj).__name__)
        return Objective(obj, name, name)
    if not isinstance(obj, str):
        raise TypeError(
            f"an objective is a text 'layer:channel', an Objective or a function of T, got {obj!r}."
        )
    layer, colon, unit = obj.rpartition(":")
    try:
        index = int(unit)
    except ValueError:
        index = None
    if not colon or not layer.strip() or index is None:
        raise ValueError(
            f"objective {obj!r}: expected the name of a layer, a colon and the index of a channel, "
            "such as 'layer4_2:10'."
        )
    return channel(layer.strip(), index)
