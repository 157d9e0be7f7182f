"""What an atlas is of: network, layers, units and settings. Its hash names the run."""

import bisect
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from fvfast._shared.messages import printable, shortened
from fvfast._shared.version import VERSION
from fvfast.atlas.fields import Fields, WrongFileError
from fvfast.atlas.keys import FORMAT, PLAN, UnitKey

Kind = Literal["channel", "neuron", "class", "direction"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class PlannedNetwork:
    """The network of an atlas.

    Attributes
    ----------
    name
        By which every worker loads it; see `fvfast.models.load_model`.
    weights_sha256
        Of its parameters and buffers.
    input_shape
        (C, H, W) of the images that it takes.
    """

    name: str
    weights_sha256: str
    input_shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class DirectionsFile:
    """Where the directions of a layer are.

    Attributes
    ----------
    file
        Path, under which every worker finds it.
    sha256
        Of the directions: their shape and values.
    """

    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class PlannedLayer:
    """The units of one layer.

    Attributes
    ----------
    name
        Of the layer.
    kind
        What its units are.
    units
        Their indices, as half-open ranges that ascend and do not touch.
    names
        Names of units that have one; None for none.
    directions
        Where the directions are, for units of that kind.
    channel_axis
        Axis of the channels in the layer's output; None for what the network tells.
    """

    name: str
    kind: Kind
    units: tuple[tuple[int, int], ...]
    names: Mapping[int, str] | None = None
    directions: DirectionsFile | None = None
    channel_axis: int | None = None

    @functools.cached_property
    def _firsts(self) -> list[int]:
        """How many units come before each range."""
        counts = [0]
        for first, last in self.units:
            counts.append(counts[-1] + last - first)
        return counts

    def __len__(self) -> int:
        return self._firsts[-1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.units:
            yield from range(first, last)

    def at(self, start: int, stop: int) -> list[int]:
        """Return the indices at positions ``start`` to ``stop``, exclusive."""
        found: list[int] = []
        number = bisect.bisect_right(self._firsts, start) - 1
        while start < min(stop, len(self)):
            first = self.units[number][0]
            end = min(stop, self._firsts[number + 1])
            found += range(first + start - self._firsts[number], first + end - self._firsts[number])
            start, number = end, number + 1
        return found


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive units of one layer, which one worker draws.

    Attributes
    ----------
    number
        From 0.
    layer
        The layer.
    indices
        Of the units.
    """

    number: int
    layer: PlannedLayer
    indices: list[int]

    @property
    def keys(self) -> list[UnitKey]:
        """The keys of the units."""
        return [UnitKey(self.layer.name, index) for index in self.indices]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an atlas is of. Made by `fvfast.atlas.make_plan`, which checks it.

    Attributes
    ----------
    network
        The network.
    layers
        The layers, each once.
    settings
        All settings of MaCo, as JSON has them; see `fvfast.atlas.settings`.
    shard_size
        Units of a shard, at most.
    fvfast
        The version that draws it.
    """

    network: PlannedNetwork
    layers: tuple[PlannedLayer, ...]
    settings: Mapping[str, Any]
    shard_size: int
    fvfast: str = VERSION

    @functools.cached_property
    def text(self) -> str:
        """The plan as canonical JSON: one plan has one text."""
        return canonical(
            {
                "format": FORMAT,
                "fvfast": self.fvfast,
                "network": {
                    "name": self.network.name,
                    "weights_sha256": self.network.weights_sha256,
                    "input_shape": list(self.network.input_shape),
                },
                "layers": [_layer_values(layer) for layer in self.layers],
                "settings": dict(self.settings),
                "shard_size": self.shard_size,
            }
        )

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the text: the name of the run."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __len__(self) -> int:
        return sum(map(len, self.layers))

    @functools.cached_property
    def _first_shards(self) -> list[int]:
        """Numbers of the first shards of the layers, and of all."""
        counts = [0]
        for layer in self.layers:
            counts.append(counts[-1] - -len(layer) // self.shard_size)
        return counts

    @property
    def shard_count(self) -> int:
        """How many shards there are."""
        return self._first_shards[-1]

    def shard(self, number: int) -> Shard:
        """Return a shard.

        Raises
        ------
        ValueError
            There is none of this number.
        """
        if not 0 <= number < self.shard_count:
            raise ValueError(
                f"there is no shard {number}; the plan has {self.shard_count}, from 0 to "
                f"{self.shard_count - 1}."
            )
        layer = bisect.bisect_right(self._first_shards, number) - 1
        start = (number - self._first_shards[layer]) * self.shard_size
        chosen = self.layers[layer]
        return Shard(number, chosen, chosen.at(start, start + self.shard_size))

    def shards(self) -> Iterator[Shard]:
        """Yield all shards, in the order of their numbers."""
        return map(self.shard, range(self.shard_count))

    def layer(self, name: str) -> PlannedLayer:
        """Return the layer of this name."""
        return next(layer for layer in self.layers if layer.name == name)

    def name_of(self, key: UnitKey) -> str | None:
        """Return the name of a unit; None if it has none."""
        return (self.layer(key.layer).names or {}).get(key.index)

    @classmethod
    def parse(cls, data: bytes | str, where: str = PLAN) -> "Plan":
        """Read the text of a plan.

        Raises
        ------
        WrongFileError
            It is none.
        """
        fields = Fields.parse(data, where)
        fields.check_format(FORMAT)
        network = fields.part("network")
        shape = network.get("input_shape", list)
        if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
            raise WrongFileError(f"{network.where} has input_shape {shape}; expected 3 sizes.")
        plan = cls(
            PlannedNetwork(
                network.get("name", str), network.get("weights_sha256", str), tuple(shape)
            ),
            tuple(
                _read_layer(Fields(one, f"{where}, layer {number},"))
                for number, one in enumerate(fields.get("layers", list))
            ),
            fields.get("settings", dict),
            fields.get("shard_size", int),
            fields.get("fvfast", str),
        )
        if plan.shard_size < 1 or not len(plan):
            raise WrongFileError(f"{where} has no units, or shards without any.")
        return plan


def canonical(values: Any) -> str:
    """Return JSON in the one form that is hashed: sorted, without spaces, ASCII."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{text}\n"


def as_ranges(indices: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return indices, in any order, as half-open ranges that ascend and do not touch."""
    ranges: list[list[int]] = []
    for index in sorted(set(indices)):
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] += 1
        else:
            ranges.append([index, index + 1])
    return tuple((first, last) for first, last in ranges)


def differences(there: Plan, asked: Plan) -> list[str]:
    """Say field by field how a plan that is there differs from one that is asked for."""
    old, new = (dict(_flat(json.loads(plan.text))) for plan in (there, asked))
    return [
        f"{printable(name)} is {_shown(old, name)} there and {_shown(new, name)} here"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def refuse_other(there: Plan, asked: Plan, where: str) -> None:
    """Raise ValueError, with the differences, unless two plans are one."""
    if there.text == asked.text:
        return
    found = differences(there, asked)
    more = f", and {len(found) - _SHOWN} more differences" if len(found) > _SHOWN else ""
    raise ValueError(
        f"{where} has an atlas with another plan: {'; '.join(found[:_SHOWN])}{more}. Ask for the "
        "same as before to go on with it, or choose another place with --out."
    )


def _layer_values(layer: PlannedLayer) -> dict[str, Any]:
    names = layer.names
    return {
        "name": layer.name,
        "kind": layer.kind,
        "units": [list(pair) for pair in layer.units],
        "names": None if names is None else {str(index): name for index, name in names.items()},
        "directions": None if layer.directions is None else dataclasses.asdict(layer.directions),
        "channel_axis": layer.channel_axis,
    }


def _read_layer(fields: Fields) -> PlannedLayer:
    kind = fields.get("kind", str)
    if kind not in KINDS:
        raise WrongFileError(f"{fields.where} has kind {kind!r}; expected {', '.join(KINDS)}.")
    names = fields.optional("names", dict)
    directions = fields.optional("directions", dict)
    read = None if directions is None else fields.part("directions")
    return PlannedLayer(
        fields.get("name", str),
        kind,
        _read_ranges(fields),
        None if names is None else _read_names(names, fields.where),
        None if read is None else DirectionsFile(read.get("file", str), read.get("sha256", str)),
        fields.optional("channel_axis", int),
    )


def _read_ranges(fields: Fields) -> tuple[tuple[int, int], ...]:
    ranges, end = [], -1
    for pair in fields.get("units", list):
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)
        if not is_pair or not end < pair[0] < pair[1]:
            raise WrongFileError(
                f"{fields.where} has units {shortened(str(pair), 60)}; expected ranges "
                "[first, last + 1] that ascend."
            )
        ranges.append((pair[0], pair[1]))
        end = pair[1]
    return tuple(ranges)


def _read_names(names: Mapping[Any, Any], where: str) -> dict[int, str]:
    for index, name in names.items():
        if not index.isdecimal() or not isinstance(name, str):
            raise WrongFileError(f"{where} names a unit {index!r}: {name!r}; expected texts.")
    return {int(index): name for index, name in names.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name == "layers":
            for layer in value:
                yield from _flat(
                    {k: v for k, v in layer.items() if k != "name"}, f"layer {layer['name']}: "
                )
        elif isinstance(value, dict) and name in ("network", "settings"):
            yield from _flat(value, "" if name == "settings" else f"{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "missing"
    value = values[name]
    if name.endswith(": units"):
        value = ",".join(f"{a}-{b - 1}" if b - a > 1 else str(a) for a, b in value)
        return shortened(value, 60)
    return shortened(printable(json.dumps(value)), 60)
