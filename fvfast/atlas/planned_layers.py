"""The layers of a plan: which units of each, and what these are."""

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from fvfast._shared.messages import printable, shortened
from fvfast.atlas.fields import Fields
from fvfast.atlas.keys import quoted

Kind = Literal["channel", "neuron", "class", "direction"]
KINDS: tuple[Kind, ...] = get_args(Kind)


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

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        number = bisect.bisect_right(self.units, index, key=lambda pair: pair[0]) - 1
        return number >= 0 and index < self.units[number][1]

    def described(self) -> dict[str, Any]:
        """Return the part of a plan."""
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
        """Read the part of a plan.

        Raises
        ------
        WrongFileError
            It is none.
        """
        kind = fields.text("kind")
        if kind not in KINDS:
            raise fields.error(f"has kind {kind!r}; expected {', '.join(KINDS)}.")
        directions = fields.optional_inner("directions")
        return cls(
            _read_name(fields),
            kind,
            _read_ranges(fields),
            _read_names(fields),
            None
            if directions is None
            else DirectionsFile(directions.text("file"), directions.text("sha256")),
            fields.optional_integer("channel_axis"),
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


def _read_name(fields: Fields) -> str:
    name = fields.text("name")
    try:
        quoted(name)
    except UnicodeEncodeError as error:
        raise fields.error("has a name that is not Unicode text.") from error
    return name


def _read_ranges(fields: Fields) -> tuple[tuple[int, int], ...]:
    ranges, end = [], -1
    for pair in fields.listed("units"):
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)
        if not is_pair or not end < pair[0] < pair[1]:
            raise fields.error(
                f"has units {shortened(printable(repr(pair)), 60)}; expected ranges "
                "[first, last + 1] that ascend."
            )
        ranges.append((pair[0], pair[1]))
        end = pair[1]
    return tuple(ranges)


def _read_names(fields: Fields) -> dict[int, str] | None:
    names = fields.optional_inner("names")
    if names is None:
        return None
    for index, name in names.items():
        if not index.isdecimal() or not isinstance(name, str):
            raise fields.error(f"names a unit {index!r}: {name!r}; expected texts.")
    return {int(index): name for index, name in names.items()}
