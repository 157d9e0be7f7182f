"""The pictures that a command line asks for: of which units, and what each is called."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

from fvfast.cli.arguments import parse_ids, parse_layer
from fvfast.engine.network.layers import trace_layers
from fvfast.models import LoadedModel
from fvfast.objectives import Objective

LAST_LAYER = -1


@dataclasses.dataclass(frozen=True)
class Request:
    """N pictures of units of one network.

    Attributes
    ----------
    names
        The N names.
    targets
        What each of them shows: the layer, and the channel, neuron or class.
    channels
        Channels of the images.
    objective
        Makes the objective of the pictures at some of the N positions.
    """

    names: list[str]
    targets: list[dict[str, Any]]
    channels: int
    objective: Callable[[Sequence[int]], Objective]


@dataclasses.dataclass(frozen=True)
class Target:
    """What the pictures are optimized for, as the command line says it.

    Attributes
    ----------
    layer
        Name or index of a layer; None where it was not given.
    channels, neurons
        Lists of numbers such as ``3,5-9``.
    classes
        Names or indices of classes; None where they were not given.
    whole_layer
        Whether to maximize the mean square of the layer.
    channel_axis
        Axis of the channels in the layer's output; None for what the network tells.
    """

    layer: str | None
    channels: str | None
    neurons: str | None
    classes: Sequence[str] | None
    whole_layer: bool
    channel_axis: int | None = None

    def __post_init__(self) -> None:
        kinds = {
            "--channel": self.channels is not None,
            "--neuron": self.neurons is not None,
            "--class": bool(self.classes),
            "--whole-layer": self.whole_layer,
        }
        given = [option for option, used in kinds.items() if used]
        if len(given) != 1:
            raise typer.BadParameter(
                f"expected one of {', '.join(kinds)}; got {' and '.join(given) or 'none'}."
            )
        if self.channel_axis is not None and self.channels is None:
            raise typer.BadParameter("--channel-axis says where the channels of --channel are.")
        if self.layer is None and not self.classes:
            raise typer.BadParameter(
                f"{given[0]} needs --layer NAME_OR_INDEX; `fvfast layers MODEL` lists them."
            )
        for ids in (self.channels, self.neurons):
            if ids is not None:
                parse_ids(ids)

    def request(self, loaded: LoadedModel) -> Request:
        """Return the pictures of a network.

        Raises
        ------
        ValueError
            The model has no such layer, class, channel or neuron.
        """
        layer: str | int = LAST_LAYER
        if self.layer is not None:
            layer = parse_layer(
                self.layer, trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
            )
        feeding: dict[str, Any] = {
            "input_shape": loaded.input_shape,
            "preprocess": loaded.preprocess,
        }
        if self.whole_layer:
            whole = Objective.layer(loaded.model, layer, **feeding)
            described = {"layer": whole.layers[0].name, "whole_layer": True}
            return Request(
                whole.combination_names, [described], loaded.input_shape[0], lambda _: whole
            )
        kind, ids = self._units(loaded)

        def objective(positions: Sequence[int]) -> Objective:
            chosen = [ids[position] for position in positions]
            if kind == "channel":
                return Objective.channel(
                    loaded.model, layer, chosen, channel_axis=self.channel_axis, **feeding
                )
            names = [_class_name(loaded, index) for index in chosen] if kind == "class" else None
            return Objective.neuron(loaded.model, layer, chosen, names=names, **feeding)

        everything = objective(range(len(ids)))
        name = everything.layers[0].name
        return Request(
            everything.combination_names,
            [{"layer": name, kind: index} for index in ids],
            loaded.input_shape[0],
            objective,
        )

    def _units(self, loaded: LoadedModel) -> tuple[str, list[int]]:
        """Return what is drawn, and its numbers."""
        if self.channels is not None:
            return "channel", parse_ids(self.channels)
        if self.neurons is not None:
            return "neuron", parse_ids(self.neurons)
        return "class", list(dict.fromkeys(map(loaded.class_index, self.classes or ())))


def chunks(positions: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Parts of up to ``size`` positions, in their order."""
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def _class_name(loaded: LoadedModel, index: int) -> str:
    known = loaded.categories is not None and index < len(loaded.categories)
    return loaded.categories[index] if loaded.categories and known else f"class {index}"
