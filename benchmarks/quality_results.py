"""The files in which benchmarks of quality keep their runs: a row for each picture."""

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Results:
    """A CSV file to which each finished run is appended at once.

    Attributes
    ----------
    path
        The file.
    columns
        All columns, in order.
    key
        Columns that distinguish runs.
    """

    path: Path
    columns: Sequence[str]
    key: Sequence[str]

    def key_of(self, row: Row) -> tuple[str, ...]:
        """Return what distinguishes a row's run; the same before it is written and after."""
        return tuple(str(row[column]) for column in self.key)

    def read(self) -> list[Row]:
        """Return the rows in order; none if there is no file.

        Raises
        ------
        ValueError
            The file has other columns.
        """
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != tuple(self.columns):
                raise ValueError(
                    f"{self.path} has other columns than this benchmark writes: move it away, or "
                    "name another file with --results."
                )
            return list(reader)

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows(rows)

    def latest(self, rows: Iterable[Row]) -> list[Row]:
        """Keep the last of the rows of the same run and step: a repeated run replaces earlier."""
        return list({(self.key_of(row), row.get("step")): row for row in rows}.values())
