"""Draws one shard: the function that everything else only decides when to call."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch

from fvfast._shared.messages import printable, shortened
from fvfast.atlas.events import AttemptFailed, Report, ignore
from fvfast.atlas.failures import (
    ATTEMPTS,
    BrokenDeviceError,
    Failure,
    NotEnoughMemoryError,
    breaks_device,
    failed_indices,
    failure_of,
    read_failure,
    runs_out_of_memory,
)
from fvfast.atlas.keys import UNITS, UnitKey, indices_of, quoted
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan, Shard
from fvfast.atlas.worker import Drawn, Worker
from fvfast.atlas.writer import FinishedUnit, Writer

_LONGEST = 200


@dataclasses.dataclass
class ShardResult:
    """What became of the units of a shard.

    Attributes
    ----------
    drawn
        How many were drawn now.
    set_aside
        How many are set aside, now or before.
    stopped
        Whether it ended before its last unit, because it was asked to.
    """

    drawn: int = 0
    set_aside: int = 0
    stopped: bool = False


def run_shard(
    plan: Plan,
    number: int,
    place: Place,
    *,
    worker: Worker | None = None,
    missing: Sequence[int] | None = None,
    report: Report = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> ShardResult:
    """Draw the units of a shard that are not in the place yet.

    Every unit is written as soon as its batch ends. A batch that fails is drawn again, one unit at
    a time; a unit that fails three times is set aside, with its traceback, and the others go on.

    Parameters
    ----------
    plan
        The plan, which must be in the place: see `fvfast.atlas.begin`.
    number
        Of the shard.
    place
        Where the pictures go.
    worker
        Draws; one that is used for several shards loads the network once. Default: a new one.
    missing
        Indices of the units without a record, if that is known. Default: looks into the place.
    report
        Called, from several threads, with what happens.
    stop
        Asked before each batch whether to end.

    Returns
    -------
    result
        What became of the units.

    Raises
    ------
    BrokenDeviceError
        The device answers nothing any more: this process has to end, and another one to go on.
    NotEnoughMemoryError
        The memory does not hold the pictures that the plan has drawn together.
    OSError
        The place cannot be written.
    """
    shard = plan.shard(number)
    if missing is None:
        missing = missing_indices(place, shard)
    if not missing:
        return ShardResult()
    worker = worker or Worker(plan)
    with Writer(plan, place, worker.values_range, report) as writer:
        return _ShardRun(plan, shard, place, worker, writer, report).run(set(missing), stop)


def missing_indices(place: Place, shard: Shard) -> list[int]:
    """Return the units of a shard without a record."""
    there = indices_of(place.names(f"{UNITS}/{quoted(shard.layer.name)}"))
    return [index for index in shard.indices if index not in there]


class _ShardRun:
    """Draws a shard in batches, and decides what follows a failure."""

    def __init__(
        self,
        plan: Plan,
        shard: Shard,
        place: Place,
        worker: Worker,
        writer: Writer,
        report: Report,
    ) -> None:
        self._plan = plan
        self._shard = shard
        self._place = place
        self._worker = worker
        self._writer = writer
        self._report = report
        self._result = ShardResult()
        self._attempts: dict[int, int] = {}

    def run(self, missing: set[int], stop: Callable[[], bool]) -> ShardResult:
        """Draw what is missing."""
        failed = failed_indices(self._place, self._shard.layer.name) & missing
        for index in sorted(failed):
            self._attempts[index] = read_failure(self._place, self._key(index)).attempts
        aside = {index for index in failed if self._attempts[index] >= ATTEMPTS}
        self._result.set_aside = len(aside)
        for batch in self._batches(missing - aside):
            if stop():
                self._result.stopped = True
                break
            # One batch may wait to be written while the next one is drawn.
            self._writer.wait(self._worker.batch_size)
            self._draw(batch, set(missing - aside))
        return self._result

    def _batches(self, wanted: set[int]) -> Iterator[list[int]]:
        """Yield batches; units of which an attempt has failed are alone.

        Batches begin at the same units whatever is there already, and are drawn whole, because the
        last bits of a picture may depend on how many are drawn with it.
        """
        indices, start = self._shard.indices, 0
        while start < len(indices):
            batch = indices[start : start + self._worker.batch_size]
            start += len(batch)
            if wanted.isdisjoint(batch):
                continue
            if self._attempts.keys().isdisjoint(batch):
                yield batch
            else:
                yield from ([index] for index in batch if index in wanted)

    def _draw(self, batch: list[int], wanted: set[int], *, is_full: bool = False) -> None:
        """Draw a batch; ``is_full`` says that the memory was full when it was drawn before."""
        was_full = is_full
        try:
            drawn = self._worker.draw(self._shard, batch)
        except Exception as error:
            # A network's own code may raise whatever it likes.
            is_full = runs_out_of_memory(error) and len(batch) > 1
            if is_full:
                if was_full and self._worker.must_fit:
                    raise NotEnoughMemoryError(self._too_many(batch, error)) from error
                parts = self._smaller(batch)
            elif breaks_device(error):
                self._writer.wait(0)
                for index in wanted.intersection(batch):
                    self._fail(index, error)
                raise BrokenDeviceError(f"{self._worker.device}: {error}") from error
            elif len(batch) > 1:
                parts = [[index] for index in batch]
            else:
                parts = [batch] if self._fail(batch[0], error) else []
        else:
            self._finish(batch, drawn, wanted)
            return
        # Outside the handler, whose traceback holds the memory of the failed batch.
        if is_full:
            self._worker.free_memory()
        for part in parts:
            if not wanted.isdisjoint(part):
                self._draw(part, wanted, is_full=is_full)

    def _smaller(self, batch: list[int]) -> list[list[int]]:
        """Return the halves of a batch that does not fit; the same once more, if it has to fit."""
        if self._worker.must_fit:
            return [batch]
        half = (len(batch) + 1) // 2
        self._worker.batch_size = min(self._worker.batch_size, half)
        return [batch[:half], batch[half:]]

    def _too_many(self, batch: list[int], error: Exception) -> str:
        return (
            f"{self._worker.device}: the memory does not hold the {len(batch)} pictures that this "
            f"atlas has drawn together ({shortened(printable(str(error)), _LONGEST)}). Fewer would "
            "have other last bits. Free memory of the device, let fewer workers share it, or draw "
            "on devices with more; or draw a new atlas in another place, with a smaller batch_size "
            "(--batch-size)."
        )

    def _fail(self, index: int, error: BaseException) -> bool:
        """Write down that an attempt has failed; return whether there is another one."""
        attempts = self._attempts.get(index, 0) + 1
        self._attempts[index] = attempts
        failure = failure_of(
            error, self._plan.sha256, self._key(index), self._shard.layer.kind, attempts,
            self._worker.device,
        )  # fmt: skip
        self._place.put(failure.key.failure, failure.encode())
        self._tell(failure)
        return not failure.is_set_aside

    def _tell(self, failure: Failure) -> None:
        if failure.is_set_aside:
            self._result.set_aside += 1
        self._report(
            AttemptFailed(failure.key, failure.attempts, failure.is_set_aside, failure.error)
        )

    def _finish(self, batch: list[int], drawn: Drawn, wanted: set[int]) -> None:
        """Hand over the pictures to the writer; images without a single step have failed."""
        again = []
        for position, index in enumerate(batch):
            if index not in wanted:
                continue
            scores = drawn.scores[position]
            scores = scores[scores.isfinite()]
            if not len(scores):
                again.append(index)
                continue
            self._result.drawn += 1
            self._writer.write(self._unit(index, position, drawn, scores))
        for index in again:
            error = FloatingPointError(
                "the score or its gradient was not finite from the first step. Check the "
                "network's output, and values_range."
            )
            if self._fail(index, error):
                self._draw([index], wanted)

    def _unit(self, index: int, position: int, drawn: Drawn, scores: torch.Tensor) -> FinishedUnit:
        key, count = self._key(index), len(drawn.images)
        return FinishedUnit(
            key=key,
            kind=self._shard.layer.kind,
            name=self._plan.name_of(key),
            image=drawn.images[position],
            transparency=drawn.transparencies[position],
            scores=scores,
            seconds=drawn.seconds / count,
            batch_size=count,
            device=self._worker.device,
            attempt=self._attempts.get(index, 0) + 1,
        )

    def _key(self, index: int) -> UnitKey:
        return UnitKey(self._shard.layer.name, index)
