"""The kinds of units that a command line can name: a row of `UNIT_KINDS` for each option."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from fvfast.cli.arguments import parse_ids
from fvfast.models import LoadedModel
from fvfast.objectives import Objective


@dataclasses.dataclass(frozen=True)
class Source:
    """Where units are read.

    Attributes
    ----------
    loaded
        The network.
    layer
        Name or index of the layer.
    channel_axis
        Axis of the channels in the layer's output; None for what the network tells.
    """

    loaded: LoadedModel
    layer: str | int
    channel_axis: int | None

    @property
    def network(self) -> dict[str, Any]:
        """The arguments that all kinds of objectives take."""
        return {
            "model": self.loaded.model,
            "layer": self.layer,
            "input_shape": self.loaded.input_shape,
            "preprocess": self.loaded.preprocess,
        }


@dataclasses.dataclass(frozen=True)
class UnitKind:
    """One way to say what pictures are made for.

    Attributes
    ----------
    name
        Of the units, in the record that goes with a picture.
    option
        The option, as Typer reads it.
    units
        The units that the option's value names, one for each picture, ready for JSON.
    objective
        The objective of some of them, with one combination for each.
    needs_layer
        Whether ``--layer`` must be given; otherwise it is the last layer by default.
    """

    name: str
    option: Any
    units: Callable[[Any, LoadedModel], Sequence[Any]]
    objective: Callable[[Source, Sequence[Any]], Objective]
    needs_layer: bool = True

    @property
    def parameter(self) -> str:
        """Name of the option's parameter."""
        return f"{self.name}_units"

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return f"--{self.name.replace('_', '-')}"


def _numbers(value: Sequence[int], _: LoadedModel) -> Sequence[int]:
    return value


def _classes(value: Sequence[str], loaded: LoadedModel) -> Sequence[int]:
    return list(dict.fromkeys(map(loaded.class_index, value)))


def _channel_objective(source: Source, channels: Sequence[int]) -> Objective:
    return Objective.channel(
        channel_ids=channels, channel_axis=source.channel_axis, **source.network
    )


def _neuron_objective(source: Source, neurons: Sequence[int]) -> Objective:
    return Objective.neuron(neurons_ids=neurons, **source.network)


def _class_objective(source: Source, classes: Sequence[int]) -> Objective:
    names = source.loaded.categories or ()
    known = [names[index] if index < len(names) else f"class {index}" for index in classes]
    return Objective.neuron(neurons_ids=classes, names=known, **source.network)


def _layer_objective(source: Source, _: Sequence[bool]) -> Objective:
    return Objective.layer(**source.network)


UNIT_KINDS = (
    UnitKind(
        "channel",
        Annotated[
            Any,
            typer.Option(
                "--channel",
                "-c",
                metavar="IDS",
                parser=parse_ids,
                help="Channels, such as 3,5-9.",
            ),
        ],
        _numbers,
        _channel_objective,
    ),
    UnitKind(
        "neuron",
        Annotated[
            Any,
            typer.Option(
                "--neuron",
                "-n",
                metavar="IDS",
                parser=parse_ids,
                help="Neurons, such as 0-9 (flat, in the order of the output's axes, as "
                "`fvfast layers` shows them).",
            ),
        ],
        _numbers,
        _neuron_objective,
    ),
    UnitKind(
        "class",
        Annotated[
            list[str] | None,
            typer.Option(
                "--class",
                metavar="NAME",
                help='Class, by name ("coffee mug") or index. May be repeated.',
            ),
        ],
        _classes,
        _class_objective,
        needs_layer=False,
    ),
    UnitKind(
        "whole_layer",
        Annotated[
            bool | None,
            typer.Option("--whole-layer", help="Maximize the mean square of the whole layer."),
        ],
        lambda _value, _loaded: [True],
        _layer_objective,
    ),
)
