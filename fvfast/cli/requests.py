"""The pictures that a command line asks for: of which units, and what each is called."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from fvfast.cli.arguments import MOST_TOGETHER, check_finite_option, parse_layer
from fvfast.cli.units import UNIT_KINDS, Source, Unit, UnitKind
from fvfast.engine.network.layers import trace_layers
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.objectives.guides.blocks import first_and_last_block

LAST_LAYER = -1
DIVERSITY_WEIGHT = 1.0

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
DiversityOption = Annotated[
    int | None,
    typer.Option(
        "--diversity",
        metavar="PICTURES",
        min=2,
        help="Draw so many pictures of each unit, and push them apart: they differ in the textures "
        "that the layer sees.",
        show_default="one of each",
    ),
]
DiversityWeightOption = Annotated[
    float | None,
    typer.Option(
        "--diversity-weight",
        callback=check_finite_option,
        help="How much the difference of these pictures counts beside the unit.",
        show_default=f"{DIVERSITY_WEIGHT:g}",
    ),
]


PathOption = Annotated[
    int | None,
    typer.Option(
        "--path",
        metavar="N",
        min=2,
        max=MOST_TOGETHER,
        help="Draw N pictures that lead from the first of two units to the second, each like the "
        "one before. With --video, these pictures are the film.",
        show_default="one picture of each unit",
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
    group
        How many pictures, next to each other, are scored together. The positions above are whole
        groups.
    is_path
        Whether the pictures lead from one unit to another.
    """

    names: list[str]
    targets: list[dict[str, Any]]
    channels: int
    objective: Callable[[Sequence[int]], Objective]
    group: int = 1
    is_path: bool = False

    def batches(self, positions: Sequence[int], batch_size: int) -> list[Sequence[int]]:
        """Share positions between batches of whole groups.

        Parameters
        ----------
        positions
            In ascending order. Other positions of their groups are added.
        batch_size
            Pictures of a batch, at least one group.
        """
        groups = dict.fromkeys(position // self.group for position in positions)
        whole = [group * self.group + one for group in groups for one in range(self.group)]
        return list(_chunks(whole, max(1, batch_size // self.group) * self.group))


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
    diversity
        How many pictures of each unit are pushed apart; None for one picture of each.
    diversity_weight
        How much that counts; None where it was not given.
    path
        How many pictures lead from the first of two units to the second; None for one picture of
        each.
    """

    layer: str | None
    channel_axis: int | None
    values: Mapping[str, Any]
    diversity: int | None = None
    diversity_weight: float | None = None
    path: int | None = None

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
        if self.diversity is None and self.diversity_weight is not None:
            raise typer.BadParameter("--diversity-weight says how much --diversity counts.")
        if self.path is not None and self.diversity is not None:
            raise typer.BadParameter("--path and --diversity exclude each other.")
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
        if self.path is not None:
            return self._path_request(source, units, self.path)
        group = self.diversity or 1

        def objective(positions: Sequence[int]) -> Objective:
            chosen = [units[position // group].value for position in positions[::group]]
            return self._diverse(kind.objective(source, chosen), source)

        everything = objective(range(len(units) * group))
        name = everything.layers[0].name
        targets = [
            {"layer": name, kind.name: unit.record, **self._record(picture)}
            for unit in units
            for picture in range(group)
        ]
        return Request(
            everything.combination_names, targets, loaded.input_shape[0], objective, group
        )

    def _path_request(self, source: Source, units: Sequence[Unit], images: int) -> Request:
        """Return the pictures of a path from the first unit to the second, which make one group."""
        if len(units) != 2:
            raise ValueError(f"--path leads from one unit to another: name two, got {len(units)}.")
        first, last = (self.kind.objective(source, [unit.value]) for unit in units)
        loaded = source.loaded
        *_, block = first_and_last_block(loaded.model, loaded.input_shape, loaded.preprocess)
        path = Objective.path(first, last, block, images)
        record = {"layer": path.layers[0].name, self.kind.name: [unit.record for unit in units]}
        targets = [
            {**record, "path": {"picture": picture + 1, "of": images, "aligned_in": block}}
            for picture in range(images)
        ]
        return Request(
            path.combination_names, targets, loaded.input_shape[0], lambda _: path, images,
            is_path=True,
        )  # fmt: skip

    @property
    def _weight(self) -> float:
        return DIVERSITY_WEIGHT if self.diversity_weight is None else self.diversity_weight

    def _diverse(self, objective: Objective, source: Source) -> Objective:
        """Add what pushes several pictures of each unit apart."""
        if self.diversity is None:
            return objective
        apart = Objective.diversity(
            images=self.diversity, channel_axis=source.channel_axis, **source.network
        )
        return objective + self._weight * apart

    def _record(self, picture: int) -> dict[str, Any]:
        if self.diversity is None:
            return {}
        return {"diversity": {"picture": picture + 1, "of": self.diversity, "weight": self._weight}}

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
        "diversity": DiversityOption,
        "diversity_weight": DiversityWeightOption,
        "path": PathOption,
    }

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        others = {
            name: given.pop(name)
            for name in ("layer", "channel_axis", "diversity", "diversity_weight", "path")
        }
        values = {kind.name: given.pop(kind.parameter) for kind in UNIT_KINDS}
        # An option that may be repeated is empty where it was not given.
        values = {name: value for name, value in values.items() if value not in (None, [])}
        command(target=Target(values=values, **others), **given)

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


def _chunks(positions: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Parts of up to ``size`` positions, in their order."""
    for start in range(0, len(positions), size):
        yield positions[start : start + size]
