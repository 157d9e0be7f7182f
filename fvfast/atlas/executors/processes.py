"""Draws in processes of this machine, one per device; one that ends is replaced."""

import collections
import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from typing import Any

import torch

from fvfast._shared.checks import check_count
from fvfast.atlas.events import AttemptFailed, Note, Report, UnitDrawn
from fvfast.atlas.executors import worker_process
from fvfast.atlas.executors.base import Job, Task, WorkersFailedError
from fvfast.atlas.executors.endings import MOST_ENDINGS, Endings
from fvfast.atlas.executors.messages import Crashed, Done, Ready, Refused
from fvfast.atlas.executors.worker_process import STOP

_LOOK_UP = 0.2  # seconds between two looks at whether to stop
_PATIENCE = 10.0  # seconds for a worker that was told to end at once


class _Process:
    """One worker: its process, its connection, and what it does."""

    def __init__(self, context: Any, job: Job, threads: int | None) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=worker_process.main, args=(theirs, job, threads), daemon=True
        )
        self.process.start()
        theirs.close()
        self.is_ready = False
        self.is_ending = False
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        """Hand over a shard."""
        self.task = task
        self._send(task)

    def end(self) -> None:
        """Ask for an end after the batch."""
        self.is_ending = True
        self._send(STOP)

    def messages(self) -> list[Any]:
        """Return what it has said and was not read yet."""
        found = []
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                found.append(self.connection.recv())
        return found

    def how_it_ended(self) -> str:
        """Say how the process has ended."""
        status = self.process.exitcode
        if status is not None and status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def close(self) -> None:
        """Free what belongs to an ended process."""
        self.process.join()
        self.connection.close()
        self.process.close()

    def kill(self) -> None:
        """End it now."""
        if self.process.is_alive():
            self.process.kill()
            self.process.join(_PATIENCE)

    def _send(self, message: Any) -> None:
        # It may have ended, which its sentinel tells.
        with contextlib.suppress(OSError):
            self.connection.send(message)


class Processes:
    """The executor of local processes. They are started anew, so that none shares a state.

    As always with `multiprocessing`, a script that uses it does its work under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    workers
        How many processes. Default: one per GPU; one if there is none.
    most_endings
        How often, for each of them, one may end without a unit drawn in between.
    """

    def __init__(self, workers: int | None = None, *, most_endings: int = MOST_ENDINGS) -> None:
        self._most_endings = most_endings
        if workers is None:
            workers = max(1, torch.cuda.device_count())
        self._workers = check_count(workers, "workers", 1)

    def draw(
        self, job: Job, tasks: Iterable[Task], report: Report, stop: Callable[[], bool]
    ) -> None:
        """Draw shards; see `fvfast.atlas.executors.Executor`."""
        pool = _Pool(self._workers, self._most_endings, job, tasks, report)
        try:
            pool.run(stop)
        finally:
            pool.kill()


class _Pool:
    """The processes of one call, and what is left to do."""

    def __init__(
        self, workers: int, most_endings: int, job: Job, tasks: Iterable[Task], report: Report
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._job = job
        self._report = report
        self._tasks = collections.deque(tasks)
        self._count = min(workers, len(self._tasks))
        self._endings = Endings(self._count, most_endings)
        self._crash = ""
        self._slots: list[_Process | None] = [None] * self._count

    def run(self, stop: Callable[[], bool]) -> None:
        """Draw all shards."""
        while True:
            if stop():
                self._tasks.clear()
                for process in self._running:
                    if not process.is_ending:
                        process.end()
            else:
                self._start()
            if not self._running:
                return
            self._listen()

    def kill(self) -> None:
        """End all processes now."""
        for process in self._running:
            process.kill()
            process.close()
        self._slots = [None] * self._count

    @property
    def _running(self) -> list[_Process]:
        return [process for process in self._slots if process is not None]

    def _start(self) -> None:
        """Start processes where some are missing, and end those without work."""
        waiting = sum(process.task is None and not process.is_ending for process in self._running)
        for slot, process in enumerate(self._slots):
            if process is None and waiting < len(self._tasks):
                self._slots[slot] = _Process(self._context, self._job_of(slot), self._threads)
                waiting += 1
        for process in self._running:
            if process.task is not None or process.is_ending or not process.is_ready:
                continue
            if self._tasks:
                process.give(self._tasks.popleft())
            elif all(other.task is None for other in self._running):
                # Until then, another one may end and leave its shard.
                process.end()

    def _listen(self) -> None:
        """Wait for messages and for ends of processes."""
        handles: dict[Any, int] = {}
        for slot, process in enumerate(self._slots):
            if process is not None:
                handles[process.connection] = handles[process.process.sentinel] = slot
        for slot in {handles[handle] for handle in wait(list(handles), _LOOK_UP)}:
            process = self._slots[slot]
            assert process is not None
            # Asked before the messages are read: an ended process says nothing more.
            has_ended = not process.process.is_alive()
            for message in process.messages():
                self._hear(process, message)
            if has_ended:
                self._bury(slot, process)

    def _hear(self, process: _Process, message: Any) -> None:
        if isinstance(message, Ready):
            process.is_ready = True
        elif isinstance(message, Done):
            process.task = None
        elif isinstance(message, Refused):
            raise message.error
        elif isinstance(message, Crashed):
            self._crash = message.text
        else:
            if isinstance(message, (UnitDrawn, AttemptFailed)):
                self._endings.progress()
            self._report(message)

    def _bury(self, slot: int, process: _Process) -> None:
        """Replace a process that has ended; its shard is drawn by another one."""
        task, is_ending, how = process.task, process.is_ending, process.how_it_ended()
        process.close()
        self._slots[slot] = None
        if task is not None and not is_ending:
            # What it has written by now is found there.
            self._tasks.appendleft(Task(task.shard, None))
        if is_ending:
            return
        if self._crash:
            crash, self._crash = self._crash, ""
            raise WorkersFailedError(f"a worker failed, which is not a unit's fault:\n{crash}")
        self._report(Note(f"a worker {how}; another one goes on"))
        self._endings.count(how)

    @property
    def _threads(self) -> int:
        """Threads of each process: they share the processor."""
        return max(1, torch.get_num_threads() // self._count)

    def _job_of(self, slot: int) -> Job:
        """Return the job of a process: each GPU has its own."""
        if self._job.device not in (None, "cuda") or not torch.cuda.device_count():
            return self._job
        number = slot % torch.cuda.device_count()
        return Job(self._job.plan, self._job.place, f"cuda:{number}", self._job.batch_size)
