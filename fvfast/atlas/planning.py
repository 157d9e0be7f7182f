"""Makes plans: everything that may be wrong with an atlas is found here, before the work."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch

from fvfast._shared.checks import check_count
from fvfast._shared.messages import printable
from fvfast.atlas import directions
from fvfast.atlas.keys import LONGEST_LAYER, quoted
from fvfast.atlas.networks import check_name, weights_sha256
from fvfast.atlas.plan import Plan, PlannedNetwork
from fvfast.atlas.planned_batches import AUTO, DEFAULT, AskedSize, choose_batch_size
from fvfast.atlas.planned_layers import KINDS, Kind, PlannedLayer, as_ranges
from fvfast.atlas.settings import planned_settings
from fvfast.atlas.sizes import drawn_together, shard_size_for, with_batch_size_of
from fvfast.atlas.units import UNIT_KINDS, Source, default_kind
from fvfast.engine.network.layers import Layer
from fvfast.models import LoadedModel, load_model
from fvfast.objectives.targets import find_channel_axis

LAST_LAYER = -1
_PICTURE_CHANNELS = (1, 3)


@dataclasses.dataclass(frozen=True)
class LayerUnits:
    """Units of one layer, as a user asks for them.

    Attributes
    ----------
    layer
        Name of the layer, or its index as `fvfast layers` lists it; -1 is the last.
    units
        Indices, or "all". For classes also their names.
    kind
        "channel", "neuron", "class" or "direction". Default: channels of a layer with positions,
        classes of the last layer where they have names, else neurons.
    directions
        File of directions, for units of that kind.
    channel_axis
        See `fvfast.Objective.channel`.
    """

    layer: str | int
    units: Sequence[int | str] | Literal["all"] = "all"
    kind: Kind | None = None
    directions: str | None = None
    channel_axis: int | None = None


def make_plan(
    network: str,
    layers: Sequence[LayerUnits | str | int],
    *,
    loaded: LoadedModel | None = None,
    shard_size: int | None = None,
    batch_size: AskedSize = None,
    device: str | torch.device | None = None,
    sharing: int = 1,
    before: Plan | None = None,
    **settings: Any,
) -> Plan:
    """Plan an atlas.

    Parameters
    ----------
    network
        A name that `fvfast.models.load_model` knows, such as "efficientnet_lite0" or
        "path.to.module:factory". Every worker loads it by this name.
    layers
        The layers: names or indices, or `LayerUnits` for some of the units of one.
    loaded
        The network, if it is loaded already.
    shard_size
        Units of a shard, which one worker draws without interruption. Default: up to 64, fewer
        where there are few units.
    batch_size
        Pictures that are drawn together, by all workers. "auto" measures how many are best on a
        GPU of this machine, "default" is as many as make 64 crops, and None is "auto" on a GPU and
        "default" elsewhere.
    device
        Where that is measured. Default: a GPU if there is one.
    sharing
        Workers that will share the device's memory.
    before
        The plan of the atlas that is gone on with, if there is one: as many are drawn together as
        it says, and nothing is measured.
    settings
        Arguments of `fvfast.maco`. The default preset is "fast", the default range the network's.

    Returns
    -------
    plan
        The same arguments make the same plan on every machine, apart from a batch size that is
        measured.

    Raises
    ------
    ValueError
        No units, a layer that the network does not have or that is named twice, indices out of
        range, directions of another width than the layer, or settings that are wrong or cannot be
        written into a plan; or there is no GPU to measure a batch size on.
    TypeError
        A network that is a live object, or arguments of another type.
    RuntimeError
        The device cannot be used.
    """
    name = check_name(network)
    loaded = loaded or load_model(name)
    if loaded.input_shape[0] not in _PICTURE_CHANNELS:
        raise ValueError(
            f"{loaded.name} takes images of {loaded.input_shape[0]} channels; an atlas has "
            "pictures of 1 or 3. Use fvfast.maco_batch, which returns all channels."
        )
    if not layers:
        raise ValueError("an atlas needs at least one layer.")
    planned = tuple(
        _planned_layer(loaded, one if isinstance(one, LayerUnits) else LayerUnits(one))
        for one in layers
    )
    _check_names(planned)
    values = planned_settings(settings, loaded.values_range, loaded.input_shape[1:])
    plan = Plan(
        PlannedNetwork(name, weights_sha256(loaded.model), loaded.input_shape),
        planned,
        values,
        1 if shard_size is None else check_count(shard_size, "shard_size", 1),
    )
    if before is not None and (batch_size is None or batch_size in (AUTO, DEFAULT)):
        plan = with_batch_size_of(plan, before)
    else:
        plan = choose_batch_size(plan, batch_size, loaded, device=device, sharing=sharing)
    if shard_size is None:
        together = drawn_together(plan)
        plan = dataclasses.replace(plan, shard_size=shard_size_for(len(plan), together))
    return plan


def _planned_layer(loaded: LoadedModel, asked: LayerUnits) -> PlannedLayer:
    source = Source(loaded, asked.layer, asked.channel_axis)
    found = source.find()
    name = _own_name(loaded, found)
    source = dataclasses.replace(source, layer=name)
    kind = _kind(source, found, asked)
    planned = None
    if kind == "direction":
        assert asked.directions is not None
        vectors = directions.read_directions(asked.directions)
        planned = directions.describe(asked.directions, vectors)
        source = dataclasses.replace(source, vectors=vectors)
        _check_width(source, found, asked.directions)
    indices = _indices(source, found, kind, asked.units)
    # Refuses whatever else does not fit, such as a direction that is zero.
    UNIT_KINDS[kind].objective(source, indices[:1])
    names = {
        index: text
        for index in indices
        if (text := UNIT_KINDS[kind].name(source, index)) is not None
    }
    return PlannedLayer(
        name, kind, as_ranges(indices), names or None, planned,
        None if kind in ("neuron", "class") else asked.channel_axis,
    )  # fmt: skip


def _own_name(loaded: LoadedModel, layer: Layer) -> str:
    """Return the name by which the network knows a layer, whatever the user calls it."""
    for name, module in loaded.model.named_modules():
        if module is layer.module and name:
            return name
    return layer.name


def _kind(source: Source, layer: Layer, asked: LayerUnits) -> Kind:
    if asked.kind is not None and asked.kind not in KINDS:
        raise ValueError(f"kind is {asked.kind!r}; expected {', '.join(KINDS)}.")
    if asked.directions is not None and asked.kind in (None, "direction"):
        return "direction"
    if asked.directions is not None or asked.kind == "direction":
        raise ValueError(
            f"layer {layer.name!r}: units that are directions need a file of directions, and only "
            "they take one."
        )
    kind = asked.kind or default_kind(source, layer)
    if kind == "class" and len(layer.shape) != 1:
        raise ValueError(
            f"layer {layer.name!r} puts out {layer.shape}; classes are the outputs of a network's "
            "last layer, of one axis."
        )
    return kind


def _check_width(source: Source, layer: Layer, file: str) -> None:
    axis = find_channel_axis(layer, source.channel_axis)
    assert source.vectors is not None
    width = source.vectors.shape[1]
    if width != layer.shape[axis]:
        raise ValueError(
            f"{file} has directions of {width} numbers; layer {layer.name!r} has "
            f"{layer.shape[axis]} channels (output {layer.shape})."
        )


def _indices(
    source: Source, layer: Layer, kind: Kind, units: Sequence[int | str] | Literal["all"]
) -> list[int]:
    count = UNIT_KINDS[kind].count(source, layer)
    if isinstance(units, str):
        if units != "all":
            raise ValueError(f"units is {units!r}; expected indices, or 'all'.")
        return list(range(count))
    indices = []
    for unit in units:
        if isinstance(unit, str):
            if kind != "class":
                raise ValueError(f"{printable(unit)!r} is no index; only classes have names.")
            unit = source.loaded.class_index(unit)
        index = check_count(unit, "units", 0)
        if index >= count:
            raise ValueError(
                f"layer {layer.name!r} has no {kind} {index}: it has {count}, from 0 to "
                f"{count - 1}."
            )
        indices.append(index)
    if not indices:
        raise ValueError(f"no units of layer {layer.name!r} were asked for.")
    return sorted(set(indices))


def _check_names(layers: Sequence[PlannedLayer]) -> None:
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise ValueError(
                f"layer {layer.name!r} is named twice; an atlas has each layer once, with units "
                "of one kind."
            )
        seen.add(layer.name)
        if len(quoted(layer.name)) > LONGEST_LAYER:
            raise ValueError(
                f"the name of layer {layer.name!r} is too long for a folder: at most "
                f"{LONGEST_LAYER} characters."
            )
