"""Draws in this process, on one device."""

from collections.abc import Callable, Iterable

from fvfast.atlas.events import Note, Report
from fvfast.atlas.executors.base import Job, Task
from fvfast.atlas.failures import BrokenDeviceError
from fvfast.atlas.shards import run_shard
from fvfast.atlas.worker import Worker
from fvfast.models import LoadedModel


class Here:
    """The executor of this process.

    Parameters
    ----------
    loaded
        The network, if it is loaded already.
    """

    def __init__(self, loaded: LoadedModel | None = None) -> None:
        self._loaded = loaded

    def draw(
        self, job: Job, tasks: Iterable[Task], report: Report, stop: Callable[[], bool]
    ) -> None:
        """Draw shards; see `fvfast.atlas.executors.Executor`.

        Raises
        ------
        BrokenDeviceError
            The device answers nothing any more: only another process can go on.
        """
        plan, place = job.read_plan(), job.open_place(lambda text: report(Note(text)))
        worker: Worker | None = None
        for task in tasks:
            if stop():
                return
            if worker is None:
                worker = Worker(
                    plan, device=job.device, batch_size=job.batch_size, loaded=self._loaded
                )
            try:
                run_shard(
                    plan, task.shard, place, worker=worker, missing=task.missing, report=report,
                    stop=stop,
                )  # fmt: skip
            except BrokenDeviceError as error:
                raise BrokenDeviceError(
                    f"the device is of no use to this process any more ({error}). Run the same "
                    "command again to go on; with --workers 1 or more, that happens by itself."
                ) from error
