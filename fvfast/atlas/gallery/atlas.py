"""Reads an atlas, and keeps a list of what could not be used."""

import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from fvfast._shared.messages import printable
from fvfast.atlas.gallery.fields import Fields, UnusableFileError
from fvfast.atlas.gallery.folders import Folder
from fvfast.atlas.gallery.records import (
    PLAN,
    ExamplesRecord,
    Plan,
    PlannedLayer,
    UnitRecord,
    parse_examples,
    parse_plan,
    parse_unit,
)
from fvfast.files.reading import reason

_RECORD = re.compile(r"(0|[1-9]\d{0,17})\.json")
_READ_TOGETHER = 128
_MOST_LISTED = 20

UnitWithExamples = tuple[UnitRecord, ExamplesRecord | None]


class Atlas:
    """An atlas in a folder.

    Parameters
    ----------
    location
        Path or URL of the folder.

    Attributes
    ----------
    folder
        The folder.
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

    def __init__(self, location: str | Path) -> None:
        self.folder = Folder(location)
        self.problems: list[str] = []
        try:
            data = self.folder.read(PLAN)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.folder} has no {PLAN}; expected the folder of an atlas, as "
                "`fvfast atlas run ... --out FOLDER` makes it."
            ) from error
        self.plan: Plan = parse_plan(data)

    def set_aside(self, layer: PlannedLayer, shown: Container[int]) -> int:
        """Return how many units of a layer were given up, of those that are not shown."""
        failed = [index for index in sorted(self._indices("failed", layer)) if index not in shown]
        contents = self._contents("failed", layer, failed)
        return sum(
            self._is_set_aside(data, _file("failed", layer, index))
            for index, data in zip(failed, contents, strict=True)
            if data is not None
        )

    def _is_set_aside(self, data: bytes, file: str) -> bool:
        """Whether no more attempts are made: a record may also be of a first one."""
        try:
            return Fields.parse(data, file).raw("set_aside") is not False
        except UnusableFileError as error:
            self.problems.append(str(error))
            return False

    def units(self, layer: PlannedLayer) -> Iterator[UnitWithExamples]:
        """Yield the units of a layer that were drawn, by index, with their examples or None."""
        drawn = sorted(self._indices("units", layer))
        known = self._indices("examples", layer)
        without = [index for index in drawn if index not in known]
        if known and without:
            self.problems.append(
                f"examples/{layer.quoted} has no record of {len(without)} of the {len(drawn)} "
                f"units that were drawn: {_listed(without)}."
            )
        for begin in range(0, len(drawn), _READ_TOGETHER):
            part = drawn[begin : begin + _READ_TOGETHER]
            examples = self._examples(layer, [index for index in part if index in known])
            for index, data in zip(part, self._contents("units", layer, part), strict=True):
                record = self._record(layer, index, data)
                if record is not None:
                    yield record, examples.get(index)

    def _record(self, layer: PlannedLayer, index: int, data: bytes | None) -> UnitRecord | None:
        if data is None:
            return None
        try:
            return parse_unit(data, _file("units", layer, index), self.plan, layer, index)
        except UnusableFileError as error:
            self.problems.append(str(error))
            return None

    def _examples(self, layer: PlannedLayer, indices: list[int]) -> dict[int, ExamplesRecord]:
        found = {}
        for index, data in zip(indices, self._contents("examples", layer, indices), strict=True):
            if data is None:
                continue
            try:
                file = _file("examples", layer, index)
                found[index] = parse_examples(data, file, layer, index)
            except UnusableFileError as error:
                self.problems.append(str(error))
        return found

    def _contents(
        self, kind: str, layer: PlannedLayer, indices: Iterable[int]
    ) -> Iterator[bytes | None]:
        """Yield the content of each record; None, and a problem, where it cannot be read."""
        files = [_file(kind, layer, index) for index in indices]
        for file, content in zip(files, self.folder.read_each(files), strict=True):
            if isinstance(content, OSError):
                self.problems.append(f"{file} cannot be read: {reason(content)}.")
                yield None
            else:
                yield content

    def _indices(self, kind: str, layer: PlannedLayer) -> set[int]:
        """Return the planned units that have a record of a kind."""
        folder = f"{kind}/{layer.quoted}"
        found = set()
        for name in sorted(self.folder.names_in(folder)):
            if not (match := _RECORD.fullmatch(name)):
                if name.endswith(".json"):
                    self.problems.append(f"{folder}/{printable(name)} is not named after a unit.")
            elif int(match[1]) in layer:
                found.add(int(match[1]))
            else:
                self.problems.append(f"{folder}/{name} is of a unit that is not in the plan.")
        return found


def _file(kind: str, layer: PlannedLayer, index: int) -> str:
    return f"{kind}/{layer.quoted}/{index}.json"


def _listed(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:_MOST_LISTED]))
    return f"{shown}, ..." if len(indices) > _MOST_LISTED else shown
