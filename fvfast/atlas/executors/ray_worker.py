"""What runs in the actors of the executor `RayActors`: a network, loaded once."""

import collections
import contextlib
import os
import threading

from fvfast.atlas.events import Event, Note
from fvfast.atlas.executors.base import Job, Task
from fvfast.atlas.executors.messages import (
    Answer,
    Broken,
    Crashed,
    Done,
    Ready,
    Refused,
    refusal,
    send_warnings,
)
from fvfast.atlas.failures import BrokenDeviceError
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.shards import run_shard
from fvfast.atlas.worker import Worker

_WAIT = 1.0
"""Seconds that a question for events waits for one."""


class RayWorker:
    """An actor. Its methods run in threads of their own: it draws, is asked, and is stopped.

    They return what has happened instead of raising it, because Ray wraps exceptions, and some of
    a network's own cannot be sent.

    Parameters
    ----------
    job
        What it needs to know.
    folder
        Where the driver runs: a network of one's own is looked for there, too.
    """

    def __init__(self, job: Job, folder: str) -> None:
        with contextlib.suppress(OSError):  # of another machine, which has no such folder
            os.chdir(folder)
        send_warnings(self._report)
        self._job = job
        self._stopped = threading.Event()
        self._events: collections.deque[Event] = collections.deque()
        self._happened = threading.Condition()
        self._worker: Worker | None = None
        self._plan: Plan | None = None
        self._place: Place | None = None

    def load(self) -> Ready | Refused | Crashed:
        """Load the network."""
        try:
            self._plan = self._job.read_plan()
            self._place = self._job.open_place(lambda text: self._report(Note(text)))
            self._worker = Worker(
                self._plan, device=self._job.device, batch_size=self._job.batch_size
            )
        except Exception as error:  # noqa: BLE001 (of a network's own module)
            return refusal(error)
        return Ready()

    def draw(self, task: Task) -> Answer:
        """Draw a shard."""
        message = self._draw(task)
        return Answer(message, self._take_events())

    def _draw(self, task: Task) -> Done | Broken | Refused | Crashed:
        assert self._plan is not None
        assert self._place is not None
        try:
            run_shard(
                self._plan, task.shard, self._place, worker=self._worker, missing=task.missing,
                report=self._report, stop=self._stopped.is_set,
            )  # fmt: skip
        except BrokenDeviceError as error:
            return Broken(str(error))
        except Exception as error:  # noqa: BLE001 (of a library)
            return refusal(error)
        return Done(task.shard)

    def events(self) -> list[Event]:
        """Wait a moment for something to happen, and return it."""
        with self._happened:
            self._happened.wait_for(lambda: bool(self._events), _WAIT)
        return self._take_events()

    def stop(self) -> None:
        """End after the batch."""
        self._stopped.set()

    def process(self) -> int:
        """Return the number of the process."""
        return os.getpid()

    def _take_events(self) -> list[Event]:
        with self._happened:
            found = list(self._events)
            self._events.clear()
        return found

    def _report(self, event: Event) -> None:
        with self._happened:
            self._events.append(event)
            self._happened.notify_all()
