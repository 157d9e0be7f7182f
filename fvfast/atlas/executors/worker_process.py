"""A process of the executor `Processes`: draws shards until it is told to end."""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

import torch

from fvfast.atlas.events import Event, Note
from fvfast.atlas.executors.base import Job, Task
from fvfast.atlas.executors.messages import Crashed, Done, Ready, Refused, refusal, send_warnings
from fvfast.atlas.failures import BrokenDeviceError
from fvfast.atlas.shards import run_shard
from fvfast.atlas.worker import Worker

STOP = "stop"
"""What the driver sends so that a worker ends after its batch."""

BROKEN_DEVICE = 75
"""Exit status of a worker whose device answers nothing any more."""


def main(connection: Connection, job: Job, threads: int | None) -> None:
    """Draw shards that come through a connection; what happens goes back through it."""
    if threads is not None:
        torch.set_num_threads(threads)
    line = _Line(connection)
    send_warnings(line.send)
    # Ctrl-C in a terminal goes to all processes: the driver decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: line.stopped.set())
    try:
        _work(line, job)
    except BrokenDeviceError as error:
        line.send(Note(f"a worker's device is of no use any more, another one goes on: {error}"))
        _leave(BROKEN_DEVICE)
    except Exception as error:  # noqa: BLE001 (of a network's own module, or of a library)
        line.send(refusal(error))
        _leave(1)


def _work(line: "_Line", job: Job) -> None:
    plan, place = job.read_plan(), job.open_place(lambda text: line.send(Note(text)))
    worker = Worker(plan, device=job.device, batch_size=job.batch_size)
    line.send(Ready())
    while (task := line.next()) is not None:
        run_shard(
            plan, task.shard, place, worker=worker, missing=task.missing, report=line.send,
            stop=line.stopped.is_set,
        )  # fmt: skip
        if line.stopped.is_set():
            return
        line.send(Done(task.shard))


def _leave(status: int) -> None:
    """End at once: what a broken device would do at the end of the process may never return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Line:
    """The connection to the driver; a thread listens, so that a batch need not end for that.

    Attributes
    ----------
    stopped
        Whether the driver wants an end, or has gone.
    """

    def __init__(self, connection: Connection) -> None:
        self.stopped = threading.Event()
        self._connection = connection
        self._sending = threading.Lock()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> Task | None:
        """Wait for a task; None at the end."""
        # Looks up now and then: SIGTERM sets the flag in this thread.
        while not self.stopped.is_set():
            try:
                return self._tasks.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    def send(self, message: Event | Ready | Done | Refused | Crashed) -> None:
        """Tell the driver, if it is still there."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            self.stopped.set()

    def _listen(self) -> None:
        while True:
            try:
                message: Any = self._connection.recv()
            except (EOFError, OSError):
                # The driver has gone; another one will go on.
                message = STOP
            if message == STOP:
                self.stopped.set()
                return
            self._tasks.put(message)
