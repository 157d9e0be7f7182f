"""Which units of which layers are read, as a user says it, checked against the network."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch

from fvfast.atlas.planned_layers import KINDS, Kind
from fvfast.engine.network.layers import Layer, LayerSpec, find_layer
from fvfast.models import LoadedModel
from fvfast.objectives.targets import as_ids, check_index, find_channel_axis


@dataclasses.dataclass(frozen=True)
class Units:
    """Units of one layer.

    Attributes
    ----------
    layer
        Name or index of the layer, the module itself, or a pair (one of these, key).
    indices
        Which of them: "all", or indices. Of a neuron, the flat index in the layer's output.
    kind
        "channel", "neuron", "class" (a neuron of the last layer, with its name where the network
        carries names), or "direction" (a row of ``directions``).
    directions
        (n, C): vectors in the space of the layer's C channels. A direction's activation at a
        position is its dot product with the channels there.
    channel_axis
        Axis of the channels in the layer's output, counted without the batch; None for what the
        network tells.
    names
        Names of units by index.
    """

    layer: LayerSpec
    indices: Iterable[int] | Literal["all"] = "all"
    kind: Kind = "channel"
    directions: Any = None
    channel_axis: int | None = None
    names: Mapping[int, str] | None = None


Layers = LayerSpec | Units | list[Any] | Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ChosenUnits:
    """Units that are there.

    Attributes
    ----------
    layer
        Where they are read.
    kind
        See `Units`.
    indices
        Which of them, in the order that was asked for.
    channel_axis
        Axis of the channels, counted without the batch; None where the kind does not need it and it
        is unknown.
    directions
        float32 (n, C), one for each of the indices, on the CPU; None for other kinds.
    names
        One for each of the indices, or None.
    """

    layer: Layer
    kind: Kind
    indices: tuple[int, ...]
    channel_axis: int | None
    directions: torch.Tensor | None
    names: tuple[str | None, ...]


def listed_units(layers: Layers) -> list[Units]:
    """Read what a user gave for layers: one or several, or indices by the name of the layer.

    Raises
    ------
    ValueError
        No layer is named.
    """
    if isinstance(layers, Mapping):
        found = [Units(layer, indices) for layer, indices in layers.items()]
    else:
        # A tuple is one entry of one layer's output: see `Units.layer`.
        several = layers if isinstance(layers, list) else [layers]
        found = [one if isinstance(one, Units) else Units(one) for one in several]
    if not found:
        raise ValueError(
            'layers is empty; expected names of layers such as ["features.3"], indices by layer '
            'such as {"features.3": [0, 17]}, or Units.'
        )
    return found


def choose_units(loaded: LoadedModel, layers: Layers) -> list[ChosenUnits]:
    """Find the units that a user named.

    Parameters
    ----------
    loaded
        The network, and how it takes images.
    layers
        See `listed_units`.

    Raises
    ------
    TypeError, ValueError
        There is no such layer or unit, or a unit is named twice.
    """
    chosen = []
    for units in listed_units(layers):
        layer = find_layer(loaded.model, units.layer, loaded.input_shape, loaded.preprocess)
        chosen.append(_choose(units, layer, loaded.categories))
    _check_unique(chosen)
    return chosen


def _choose(units: Units, layer: Layer, categories: Sequence[str] | None) -> ChosenUnits:
    if units.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {units.kind!r}.")
    if (units.kind == "direction") != (units.directions is not None):
        raise ValueError(
            f"layer {layer.name!r}: kind={units.kind!r} with directions="
            f"{'None' if units.directions is None else '...'}; directions=, of shape (n, C), "
            'belong to kind="direction", and only to it.'
        )
    axis, vectors = layer.channel_axis, None
    if units.kind in ("channel", "direction"):
        axis = find_channel_axis(layer, units.channel_axis)
        count = layer.shape[axis]
    else:
        count = math.prod(layer.shape)
    if units.kind == "direction":
        vectors = _read_vectors(units.directions, layer, count)
        count = len(vectors)
    what = f"{units.kind} of layer {layer.name!r} with output {layer.shape}"
    is_all = isinstance(units.indices, str) and units.indices == "all"
    asked = range(count) if is_all else as_ids(units.indices, "indices")  # type: ignore[arg-type]
    indices = tuple(check_index(index, count, what) for index in asked)
    if not indices:
        raise ValueError(f'{what}: no indices are given; expected some, or "all".')
    known = dict(units.names or {})
    if units.kind == "class" and units.names is None:
        known = dict(enumerate(categories or ()))
    return ChosenUnits(
        layer=layer,
        kind=units.kind,
        indices=indices,
        channel_axis=axis,
        directions=None if vectors is None else vectors[list(indices)],
        names=tuple(known.get(index) for index in indices),
    )


def _read_vectors(directions: Any, layer: Layer, channels: int) -> torch.Tensor:
    # On the CPU, whatever the default device is.
    vectors = torch.as_tensor(directions, device="cpu").detach().float()
    if vectors.ndim != 2 or vectors.shape[1] != channels or not len(vectors):
        raise ValueError(
            f"directions have shape {tuple(vectors.shape)}; expected (n, {channels}): layer "
            f"{layer.name!r} with output {layer.shape} has {channels} channels."
        )
    finite = vectors.isfinite().all(1)
    if not bool(finite.all()):
        raise ValueError(f"direction {int((~finite).nonzero()[0])} holds NaN or infinity.")
    return vectors


def _check_unique(chosen: Sequence[ChosenUnits]) -> None:
    seen = set()
    for units in chosen:
        for index in units.indices:
            if (units.layer.name, index) in seen:
                raise ValueError(
                    f"unit {index} of layer {units.layer.name!r} is named twice. Units of one "
                    "layer that are of different kinds need calls of their own."
                )
            seen.add((units.layer.name, index))
