"""The kinds of units that a command line can name: a row of `UNIT_KINDS` for each option."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from fvfast.cli.arguments import parse_ids, parse_ids_or_all
from fvfast.files.digests import file_digest
from fvfast.files.directions import read_directions
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
    values_range
        (low, high) of the images that are made.
    """

    loaded: LoadedModel
    layer: str | int
    channel_axis: int | None
    values_range: Sequence[float]

    @property
    def network(self) -> dict[str, Any]:
        """The arguments that all kinds of objectives take."""
        return {
            "model": self.loaded.model,
            "layer": self.layer,
            "input_shape": self.loaded.input_shape,
            "preprocess": self.loaded.preprocess,
        }


class Unit(NamedTuple):
    """What one picture is made for.

    Attributes
    ----------
    record
        Describes it in the record that goes with a picture; ready for JSON.
    value
        What its kind makes an objective of.
    """

    record: Any
    value: Any


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
        The units that the option's value names, one for each picture.
    objective
        The objective of the values of some of them, with one combination for each.
    needs_layer
        Whether ``--layer`` must be given; otherwise it is the last layer by default.
    has_channels
        Whether ``--channel-axis`` makes a difference.
    """

    name: str
    option: Any
    units: Callable[[Any, Source], list[Unit]]
    objective: Callable[[Source, Sequence[Any]], Objective]
    needs_layer: bool = True
    has_channels: bool = False

    @property
    def parameter(self) -> str:
        """Name of the option's parameter."""
        return f"{self.name}_units"

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return f"--{self.name.replace('_', '-')}"


def _plain(values: Iterable[Any]) -> list[Unit]:
    return [Unit(value, value) for value in values]


def _channels(value: Sequence[int] | Literal["all"], source: Source) -> list[Unit]:
    if value == "all":
        return _plain(range(len(_channel_objective(source, None).combination_names)))
    return _plain(value)


def _classes(value: Sequence[str], source: Source) -> list[Unit]:
    return _plain(dict.fromkeys(map(source.loaded.class_index, value)))


def _directions(value: Path, _: Source) -> list[Unit]:
    vectors, digest = read_directions(value)
    return [
        Unit(
            {"file": value.name, "crc32": digest, "index": index},
            (f"{value.stem} {index}", vector),
        )
        for index, vector in enumerate(vectors)
    ]


def _photographs(value: Sequence[Path], _: Source) -> list[Unit]:
    return [
        Unit({"file": path.name, "crc32": file_digest(path)}, path) for path in dict.fromkeys(value)
    ]


def _channel_objective(source: Source, channels: Sequence[int] | None) -> Objective:
    return Objective.channel(
        channel_ids=channels, channel_axis=source.channel_axis, **source.network
    )


def _point_objective(source: Source, channels: Sequence[int]) -> Objective:
    return Objective.point(channel_ids=channels, channel_axis=source.channel_axis, **source.network)


def _inversion_objective(source: Source, photographs: Sequence[Path]) -> Objective:
    return Objective.inversion(
        photograph=list(photographs), values_range=source.values_range, **source.network
    )


def _caricature_objective(source: Source, photographs: Sequence[Path]) -> Objective:
    return Objective.caricature(
        photograph=list(photographs),
        values_range=source.values_range,
        channel_axis=source.channel_axis,
        **source.network,
    )


def _neuron_objective(source: Source, neurons: Sequence[int]) -> Objective:
    return Objective.neuron(neurons_ids=neurons, **source.network)


def _class_objective(source: Source, classes: Sequence[int]) -> Objective:
    names = source.loaded.categories or ()
    known = [names[index] if index < len(names) else f"class {index}" for index in classes]
    return Objective.neuron(neurons_ids=classes, names=known, **source.network)


def _direction_objective(
    source: Source, directions: Sequence[tuple[str, NDArray[np.float32]]]
) -> Objective:
    names, vectors = zip(*directions, strict=True)
    return Objective.direction(
        vectors=list(vectors),
        names=list(names),
        channel_axis=source.channel_axis,
        **source.network,
    )


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
                parser=parse_ids_or_all,
                help="Channels, such as 3,5-9, or all.",
            ),
        ],
        _channels,
        _channel_objective,
        has_channels=True,
    ),
    UnitKind(
        "point",
        Annotated[
            Any,
            typer.Option(
                "--point",
                metavar="IDS",
                parser=parse_ids,
                help="Channels in the middle of the layer's output, such as 3,5-9.",
            ),
        ],
        lambda value, _source: _plain(value),
        _point_objective,
        has_channels=True,
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
        lambda value, _source: _plain(value),
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
        "direction",
        Annotated[
            Path | None,
            typer.Option(
                "--direction",
                metavar="PATH",
                help="Directions of the layer's channels: an array (C,) or (N, C) in a file, such "
                "as the weights of linear probes (.npy, .npz, .safetensors), or a dictionary that "
                "SAELens, ViT-Prisma, saev, dictionary_learning or overcomplete saved.",
            ),
        ],
        _directions,
        _direction_objective,
        has_channels=True,
    ),
    UnitKind(
        "whole_layer",
        Annotated[
            bool | None,
            typer.Option("--whole-layer", help="Maximize the mean square of the whole layer."),
        ],
        lambda _value, _source: _plain([True]),
        _layer_objective,
    ),
    UnitKind(
        "inversion",
        Annotated[
            list[Path] | None,
            typer.Option(
                "--inversion",
                metavar="FILE",
                help="Photograph, which the picture is to look like to the layer; with maco, give "
                "--crops 0. May be repeated.",
            ),
        ],
        _photographs,
        _inversion_objective,
    ),
    UnitKind(
        "caricature",
        Annotated[
            list[Path] | None,
            typer.Option(
                "--caricature",
                metavar="FILE",
                help="Photograph, of which the picture is to exaggerate what the layer sees; with "
                "maco, give --crops 0. May be repeated.",
            ),
        ],
        _photographs,
        _caricature_objective,
        has_channels=True,
    ),
)
