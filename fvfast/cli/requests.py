"""The pictures that a command line asks for: of which units, and what each is called."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from fvfast.cli.arguments import parse_layer
from fvfast.cli.units import UNIT_KINDS, Source, UnitKind
from fvfast.engine.network.layers import trace_layers
from fvfast.models import LoadedModel
from fvfast.objectives import Objective

LAST_LAYER = -1

LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="NAME_OR_INDEX",
        help="Layer to read, by name or index, as `fvfast layers MODEL` lists them; -1 is the "
        "last layer. Where a number may be both, name:3 or index:3. Default for --class: the last "
        "layer.",
        show_default=False,
    ),
]
ChannelAxisOption = Annotated[
    int | None,
    typer.Option(
        "--channel-axis",
        help="Axis of the channels in the layer's output, without the batch; -1 is the last.",
        show_default="what the layers around tell, as in `fvfast layers`",
    ),
]


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
    channel_axis
        Axis of the channels in the layer's output; None for what the network tells.
    values
        Values of the options of `UNIT_KINDS` that were given, by name.
    """

    layer: str | None
    channel_axis: int | None
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        given = [kind.flag for kind in UNIT_KINDS if kind.name in self.values]
        if len(given) != 1:
            flags = ", ".join(kind.flag for kind in UNIT_KINDS)
            raise typer.BadParameter(
                f"expected one of {flags}; got {' and '.join(given) or 'none'}."
            )
        if self.channel_axis is not None and not self.kind.has_channels:
            those = " or ".join(kind.flag for kind in UNIT_KINDS if kind.has_channels)
            raise typer.BadParameter(f"--channel-axis says where the channels of {those} are.")
        if self.layer is None and self.kind.needs_layer:
            raise typer.BadParameter(
                f"{given[0]} needs --layer NAME_OR_INDEX; `fvfast layers MODEL` lists them."
            )

    @property
    def kind(self) -> UnitKind:
        """The kind of units that was asked for."""
        return next(kind for kind in UNIT_KINDS if kind.name in self.values)

    def request(self, loaded: LoadedModel, values_range: Sequence[float]) -> Request:
        """Return the pictures of a network, with values in a range.

        Raises
        ------
        OSError
            A file cannot be read.
        ValueError
            The model has no such layer, class, channel or neuron.
        """
        kind = self.kind
        source = Source(loaded, self._layer(loaded), self.channel_axis, values_range)
        units = kind.units(self.values[kind.name], source)

        def objective(positions: Sequence[int]) -> Objective:
            return kind.objective(source, [units[position].value for position in positions])

        everything = objective(range(len(units)))
        name = everything.layers[0].name
        return Request(
            everything.combination_names,
            [{"layer": name, kind.name: unit.record} for unit in units],
            loaded.input_shape[0],
            objective,
        )

    def _layer(self, loaded: LoadedModel) -> str | int:
        if self.layer is None:
            return LAST_LAYER
        traced = trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
        return parse_layer(self.layer, traced)


def takes_target(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Target` in the place of its parameter ``target``."""
    options = {
        "layer": LayerOption,
        **{kind.parameter: kind.option for kind in UNIT_KINDS},
        "channel_axis": ChannelAxisOption,
    }

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        layer, channel_axis = given.pop("layer"), given.pop("channel_axis")
        values = {kind.name: given.pop(kind.parameter) for kind in UNIT_KINDS}
        # An option that may be repeated is empty where it was not given.
        values = {name: value for name, value in values.items() if value not in (None, [])}
        command(target=Target(layer, channel_axis, values), **given)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "target":
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
            for name, annotation in options.items()
        ]
    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    # What Typer reads.
    with_options.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def chunks(positions: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Parts of up to ``size`` positions, in their order."""
    for start in range(0, len(positions), size):
        yield positions[start : start + size]
