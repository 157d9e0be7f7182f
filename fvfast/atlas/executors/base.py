"""What all executors have in common: a job, its tasks, and the protocol."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from fvfast.atlas.events import Report
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a worker needs to know. It can be sent to other processes and machines.

    Attributes
    ----------
    plan
        The text of the plan.
    place
        Arguments of `fvfast.atlas.Place`.
    device
        Where workers draw. Default: each executor decides.
    batch_size
        Pictures that are drawn together; see `fvfast.atlas.Worker`.
    """

    plan: str
    place: dict[str, Any]
    device: str | None = None
    batch_size: int | None = None

    def read_plan(self) -> Plan:
        """Return the plan."""
        return Plan.parse(self.plan)

    def open_place(self, say: Callable[[str], None]) -> Place:
        """Return the place, where the atlas has begun."""
        place = Place(**self.place, say=say)
        place.begin()
        return place


@dataclasses.dataclass(frozen=True)
class Task:
    """A shard that is to be drawn.

    Attributes
    ----------
    shard
        Its number.
    missing
        Indices of the units without a record; None to look for them.
    """

    shard: int
    missing: tuple[int, ...] | None


class Executor(Protocol):
    """Has shards drawn by workers."""

    def draw(
        self, job: Job, tasks: Iterable[Task], report: Report, stop: Callable[[], bool]
    ) -> None:
        """Draw shards; return when all are done, or soon after a stop was requested.

        Parameters
        ----------
        job
            What workers need to know.
        tasks
            The shards.
        report
            Called with what happens.
        stop
            Asked from time to time whether to end after the batches that are being drawn.

        Raises
        ------
        WorkersFailedError
            Workers end without drawing anything.
        fvfast.atlas.OtherNetworkError
            A worker has another network than the plan says.
        """
        ...


class WorkersFailedError(RuntimeError):
    """Workers end, one after the other, without drawing a unit."""
