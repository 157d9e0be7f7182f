"""The results file: one JSON object a line, on disk before the next number is measured."""

import contextlib
import json
import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"

Record = dict[str, Any]


class Records:
    """Appends the results of a stage to the file.

    Attributes
    ----------
    path
        The file; several processes may append to it, one after the other.
    stage
        Name of the stage, which is part of every record.
    failures
        How many failures were recorded with this object.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / RESULTS
        self.stage = stage
        self.failures = 0
        _end_last_line(self.path)

    def add(self, kind: str, **values: object) -> None:
        """Append one record and wait until it is on disk.

        Parameters
        ----------
        kind
            Kind of the record: records of the same stage and kind make one table.
        values
            Names and values, which are the columns of that table.
        """
        record = {"stage": self.stage, "kind": kind, "time": round(time.time(), 3), **values}
        line = json.dumps(record, default=str) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def fail(self, what: str, message: str, details: str = "") -> None:
        """Record a failure, which also makes the exit status 1."""
        self.failures += 1
        self.add("failure", what=what, message=message, details=details)

    def leave_out(self, what: str, reason: str) -> None:
        """Record something that is not done, which is not a failure."""
        self.add("left out", what=what, reason=reason)

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Record an exception as a failure, and go on with what follows."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a device, a driver or a compiler raises
            self.fail(what, f"{type(error).__name__}: {first_line(error)}", traceback.format_exc())


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def read_records(folder: Path) -> list[Record]:
    """Read what was recorded; a last line that was cut off is left out."""
    path = folder / RESULTS
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no {RESULTS}: expected the folder of a run")
    records = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            # Half a line: the run was killed in the middle of a write.
            records.append(
                {"stage": "", "kind": "left out", "time": 0, "what": f"line {number}",
                 "reason": f"cut off: {error}"}
            )  # fmt: skip
    return records


def _end_last_line(path: Path) -> None:
    """End a line that was cut off, so that the next record has a line of its own."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
