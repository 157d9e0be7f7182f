"""What a plan is made of: the network, and the units of each layer."""

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from fvfast._shared.messages import shortened
from fvfast.atlas.fields import Fields, WrongFileError

Kind = Literal["channel", "neuron", "class", "direction"]
KINDS: tuple[Kind, ...] = get_args(Kind)


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

    def described(self) -> dict[str, Any]:
        """Return what a plan has of it, ready for JSON."""
        names = self.names
        return {
            "name": self.name,
            "kind": self.kind,
            "units": [list(pair) for pair in self.units],
            "names": None if names is None else {str(index): name for index, name in names.items()},
            "directions": None if self.directions is None else dataclasses.asdict(self.directions),
            "channel_axis": self.channel_axis,
        }

    @classmethod
    def read(cls, fields: Fields) -> "PlannedLayer":
        """Read what a plan has of it.

        Raises
        ------
        WrongFileError
            It is damaged.
        """
        kind = fields.get("kind", str)
        if kind not in KINDS:
            raise WrongFileError(f"{fields.where} has kind {kind!r}; expected {', '.join(KINDS)}.")
        names = fields.optional("names", dict)
        directions = fields.optional("directions", dict)
        read = None if directions is None else fields.part("directions")
        return cls(
            fields.get("name", str),
            kind,
            _read_ranges(fields),
            None if names is None else _read_names(names, fields.where),
            None
            if read is None
            else DirectionsFile(read.get("file", str), read.get("sha256", str)),
            fields.optional("channel_axis", int),
        )


def as_ranges(indices: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return indices, in any order, as half-open ranges that ascend and do not touch."""
    ranges: list[list[int]] = []
    for index in sorted(set(indices)):
        if ranges and ranges[-1][1] == index:
            ranges[-1][1] += 1
        else:
            ranges.append([index, index + 1])
    return tuple((first, last) for first, last in ranges)


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
