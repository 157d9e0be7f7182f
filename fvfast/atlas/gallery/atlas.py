"""Reads an atlas, and keeps a list of what could not be used."""

from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from fvfast._shared.messages import printable
from fvfast.atlas.examples.records import ExamplesRecord
from fvfast.atlas.failures import Failure
from fvfast.atlas.fields import WrongFileError
from fvfast.atlas.keys import EXAMPLES, FAILED, UNITS, UnitKey, index_of, quoted
from fvfast.atlas.places import Place
from fvfast.atlas.planned_layers import PlannedLayer
from fvfast.atlas.progress import read_plan, side_by_side
from fvfast.atlas.records import Record
from fvfast.files.reading import reason

T = TypeVar("T")

_MOST_LISTED = 20


class Atlas:
    """An atlas in a folder.

    Parameters
    ----------
    address
        Path or URL of the folder.

    Attributes
    ----------
    place
        The folder. What is not there now is not waited for: the pages go on without it.
    plan
        Its plan.
    problems
        One line for each file that is missing or cannot be used.

    Raises
    ------
    OSError
        The plan cannot be read.
    ValueError
        It is no plan that this version reads.
    """

    def __init__(self, address: str | Path) -> None:
        self.place = Place(address, patience=0)
        self.problems: list[str] = []
        self.plan = read_plan(self.place)

    def set_aside(self, layer: PlannedLayer, shown: Container[int]) -> int:
        """Return how many units of a layer were given up, of those that are not shown."""
        failed = self._indices(FAILED, layer)
        keys = [UnitKey(layer.name, index) for index in failed if index not in shown]
        read = self._read_each(keys, lambda key: key.failure, Failure.parse)
        return sum(failure is not None and failure.is_set_aside for failure in read)

    def units(self, layer: PlannedLayer) -> Iterator[tuple[Record, ExamplesRecord | None]]:
        """Yield the units of a layer that were drawn, by index, with their examples or None."""
        drawn = self._indices(UNITS, layer)
        known = set(self._indices(EXAMPLES, layer))
        without = [index for index in drawn if index not in known]
        if known and without:
            self.problems.append(
                f"{EXAMPLES}/{quoted(layer.name)} has no record of {len(without)} of the "
                f"{len(drawn)} units that were drawn: {_listed(without)}."
            )
        keys = [UnitKey(layer.name, index) for index in drawn]
        with_examples = (key for key in keys if key.index in known)
        records = self._read_each(keys, lambda key: key.record, self._record)
        examples = self._read_each(with_examples, lambda key: key.examples, ExamplesRecord.parse)
        for key, record in zip(keys, records, strict=True):
            beside = next(examples) if key.index in known else None
            if record is not None:
                yield record, beside

    def _record(self, data: bytes, key: UnitKey) -> Record:
        return Record.parse(data, key, self.plan.sha256)

    def _read_each(
        self,
        keys: Iterable[UnitKey],
        file: Callable[[UnitKey], str],
        parse: Callable[[bytes, UnitKey], T],
    ) -> Iterator[T | None]:
        """Yield what a file of each unit holds; None, and a problem, where it cannot be used."""

        def read(key: UnitKey) -> T | str:
            try:
                return parse(self.place.read(file(key)), key)
            except WrongFileError as error:
                return str(error)
            except OSError as error:
                return f"{file(key)} cannot be read: {reason(error)}."

        for found in side_by_side(read, keys):
            if isinstance(found, str):
                self.problems.append(found)
                yield None
            else:
                yield found

    def _indices(self, kind: str, layer: PlannedLayer) -> list[int]:
        """Return the planned units that have a record of a kind, in order."""
        folder = f"{kind}/{quoted(layer.name)}"
        found = []
        for name in sorted(self.place.names(folder)):
            index = index_of(name)
            if index is None:
                if name.endswith(".json"):
                    self.problems.append(f"{folder}/{printable(name)} is not named after a unit.")
            elif index in layer:
                found.append(index)
            else:
                self.problems.append(f"{folder}/{name} is of a unit that is not in the plan.")
        return sorted(found)


def _listed(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:_MOST_LISTED]))
    return f"{shown}, ..." if len(indices) > _MOST_LISTED else shown
