"""The kinds of units: how many a layer has, and the objective of some of them.

Names decide an image's random numbers, so they are those of `fvfast.Objective` by default:
``maco_batch(Objective.channel(model, layer, ids))`` draws the pictures of an atlas.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvfast.atlas.planned_layers import Kind
from fvfast.engine.network.layers import Layer, find_layer
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.objectives.targets import find_channel_axis

Vectors = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Source:
    """A layer of a network, and what else its units need.

    Attributes
    ----------
    loaded
        The network.
    layer
        Name of the layer.
    channel_axis
        Axis of the channels in the layer's output; None for what the network tells.
    vectors
        (N, C) for units that are directions.
    """

    loaded: LoadedModel
    layer: str | int
    channel_axis: int | None = None
    vectors: Vectors | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What all kinds of objectives take."""
        return {
            "model": self.loaded.model,
            "layer": self.layer,
            "input_shape": self.loaded.input_shape,
            "preprocess": self.loaded.preprocess,
        }

    def find(self) -> Layer:
        """Return the layer as the network has it."""
        model, shape = self.loaded.model, self.loaded.input_shape
        return find_layer(model, self.layer, shape, self.loaded.preprocess)


@dataclasses.dataclass(frozen=True)
class UnitKind:
    """One kind of units.

    Attributes
    ----------
    count
        How many the layer has.
    objective
        The objective of some of them, with one combination for each.
    name
        The name of a unit; None if it has none.
    """

    count: Callable[[Source, Layer], int]
    objective: Callable[[Source, Sequence[int]], Objective]
    name: Callable[[Source, int], str | None] = lambda _source, _index: None


def _channels(source: Source, layer: Layer) -> int:
    return layer.shape[find_channel_axis(layer, source.channel_axis)]


def _channel_objective(source: Source, indices: Sequence[int]) -> Objective:
    return Objective.channel(
        channel_ids=list(indices), channel_axis=source.channel_axis, **source.arguments
    )


def _neurons(_: Source, layer: Layer) -> int:
    return math.prod(layer.shape)


def _neuron_objective(source: Source, indices: Sequence[int]) -> Objective:
    return Objective.neuron(neurons_ids=list(indices), **source.arguments)


def _class_name(source: Source, index: int) -> str | None:
    names = source.loaded.categories or []
    return names[index] if index < len(names) else f"class {index}"


def _class_objective(source: Source, indices: Sequence[int]) -> Objective:
    names = [str(_class_name(source, index)) for index in indices]
    return Objective.neuron(neurons_ids=list(indices), names=names, **source.arguments)


def _directions(source: Source, _: Layer) -> int:
    return 0 if source.vectors is None else len(source.vectors)


def _direction_objective(source: Source, indices: Sequence[int]) -> Objective:
    assert source.vectors is not None
    # As Objective.direction names them when it gets all of them at once.
    layer = source.find().name
    return Objective.direction(
        vectors=[source.vectors[index] for index in indices],
        names=[f"Direction#{layer}_{index}" for index in indices],
        channel_axis=source.channel_axis,
        **source.arguments,
    )


UNIT_KINDS: dict[Kind, UnitKind] = {
    "channel": UnitKind(_channels, _channel_objective),
    "neuron": UnitKind(_neurons, _neuron_objective),
    "class": UnitKind(_neurons, _class_objective, _class_name),
    "direction": UnitKind(_directions, _direction_objective),
}


def default_kind(source: Source, layer: Layer) -> Kind:
    """Return the kind of units that a layer has when nobody says."""
    if len(layer.shape) > 1:
        return "channel"
    categories = source.loaded.categories
    is_last = layer.name == dataclasses.replace(source, layer=-1).find().name
    if categories is not None and is_last and layer.shape == (len(categories),):
        return "class"
    return "neuron"
