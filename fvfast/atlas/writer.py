"""Encodes and writes pictures beside the drawing of the next batch, a bounded number at a time."""

import concurrent.futures
import dataclasses
import os
import platform
from types import TracebackType
from typing import Any

import torch

from fvfast.atlas.commands import command_for
from fvfast.atlas.events import Report, UnitDrawn
from fvfast.atlas.failures import now
from fvfast.atlas.keys import UnitKey
from fvfast.atlas.pictures import encode_picture
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.records import Record
from fvfast.atlas.stored import StoredImage

_DIGITS = 6
_MOST_THREADS = 4


@dataclasses.dataclass(frozen=True)
class FinishedUnit:
    """A unit that was drawn, and is to be written.

    Attributes
    ----------
    key
        Which unit.
    kind, name
        What it is.
    image, transparency
        (C, H, W).
    scores
        (steps,): finite ones.
    seconds, batch_size, device, attempt
        See `fvfast.atlas.records.Record`.
    """

    key: UnitKey
    kind: str
    name: str | None
    image: torch.Tensor
    transparency: torch.Tensor
    scores: torch.Tensor
    seconds: float
    batch_size: int
    device: str
    attempt: int


class Writer:
    """Writes units: the picture first, then the record. Leaving the ``with`` statement waits.

    Parameters
    ----------
    plan, place
        What is written, and where.
    values_range
        See `fvfast.atlas.commands.command_for`.
    report
        Told of each unit whose record is written.
    threads
        Units that are encoded at the same time.
    """

    def __init__(
        self,
        plan: Plan,
        place: Place,
        values_range: tuple[float, float],
        report: Report,
        *,
        threads: int | None = None,
    ) -> None:
        self._plan = plan
        self._place = place
        self._values_range = values_range
        self._report = report
        threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "fvfast-atlas-writer")
        self._running: set[concurrent.futures.Future[None]] = set()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # After an error of the drawing too: what is drawn is not lost.
            self.wait(0)
        except BaseException as failure:
            if error is not None:
                raise failure from error
            raise
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def wait(self, most: int) -> None:
        """Wait until at most so many units are left to be written.

        Raises
        ------
        OSError
            A unit could not be written.
        """
        while len(self._running) > most:
            done, self._running = concurrent.futures.wait(
                self._running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for one in done:
                one.result()

    def write(self, unit: FinishedUnit) -> None:
        """Write a unit soon."""
        self._running.add(self._pool.submit(self._write, unit))

    def _write(self, unit: FinishedUnit) -> None:
        encoded = encode_picture(unit.image, unit.transparency)
        size = encoded.width, encoded.height
        key, scores = unit.key, [_rounded(score) for score in unit.scores.tolist()]
        record = Record(
            plan=self._plan.sha256,
            key=key,
            kind=unit.kind,
            name=unit.name,
            picture=StoredImage.of(key.picture, encoded.picture, *size),
            transparency=StoredImage.of(key.transparency, encoded.transparency, *size),
            scores=scores,
            score=scores[-1],
            steps=len(scores),
            seconds=_rounded(unit.seconds),
            batch_size=unit.batch_size,
            device=unit.device,
            host=platform.node(),
            attempt=unit.attempt,
            drawn_at=now(),
            fvfast=self._plan.fvfast,
            command=command_for(self._plan, key, self._values_range),
        )
        self._place.put(key.picture, encoded.picture)
        self._place.put(key.transparency, encoded.transparency)
        self._place.put(key.record, record.encode())
        if unit.attempt > 1:
            self._place.remove(key.failure)
        self._report(UnitDrawn(key))


def _rounded(value: Any) -> float:
    return float(f"{value:.{_DIGITS}g}")
