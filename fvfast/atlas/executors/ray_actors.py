"""Draws in a Ray cluster: an actor for each GPU, or a part of one. Dead ones are replaced."""

import collections
import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from fvfast._shared.checks import check_count, check_finite
from fvfast.atlas.events import AttemptFailed, Note, Report, UnitDrawn
from fvfast.atlas.executors.base import Job, Task, WorkersFailedError
from fvfast.atlas.executors.endings import Endings
from fvfast.atlas.executors.messages import Answer, Broken, Crashed, Ready, Refused
from fvfast.atlas.executors.ray_cluster import LOCAL, ActorShares, connected, import_ray, shares_of
from fvfast.atlas.executors.ray_worker import RayWorker

_LOOK_UP = 0.2  # seconds between two looks at whether to stop
_START = 600.0  # seconds for a first actor to start
_THREADS = 4  # of an actor: it draws, is asked for events, and is stopped


class _ClusterLostError(ConnectionError):
    """No machine of the cluster is alive."""


class RayActors:
    """The executor of Ray clusters.

    Parameters
    ----------
    address
        Of a cluster, as ``ray.init`` takes it: ``auto`` is the one of this machine. ``local``
        starts one on this machine, which only this machine reaches, unless Ray was imported
        before. A Ray that is initialized
        already is used as it is.
    workers
        How many actors. Default: as many as the cluster has room for: with GPUs, that many; else
        one per machine.
    gpus_per_worker
        GPUs of an actor, or a fraction of one. Default: 1 if the cluster has GPUs, else 0.
    actor
        The class of the actors. Default: those that draw.

    Raises
    ------
    ImportError
        Ray is not installed.
    """

    def __init__(
        self,
        address: str = LOCAL,
        *,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        actor: type[RayWorker] = RayWorker,
    ) -> None:
        self._actor = actor
        self._ray = import_ray(address)
        self._address = address
        self._workers = None if workers is None else check_count(workers, "workers", 1)
        if gpus_per_worker is not None and check_finite(gpus_per_worker, "gpus_per_worker") < 0:
            raise ValueError(f"gpus_per_worker must be at least 0, got {gpus_per_worker}.")
        self._gpus = gpus_per_worker

    def draw(
        self, job: Job, tasks: Iterable[Task], report: Report, stop: Callable[[], bool]
    ) -> None:
        """Draw shards; see `fvfast.atlas.executors.Executor`.

        Raises
        ------
        ConnectionError
            There is no such cluster, or all its machines have gone.
        """
        left = collections.deque(tasks)
        endings = Endings(1)
        while left and not stop():
            with connected(self._ray, self._address) as is_ours:
                pool = _ActorPool(self._ray, self._shares(), self._actor, job, left, report)
                try:
                    pool.run(stop)
                except _ClusterLostError:
                    if not is_ours:
                        raise
                    report(Note("the Ray cluster of this machine has died; another one is started"))
                    endings.count("belonged to a Ray cluster that has died")
                finally:
                    left = pool.kill()
            if pool.has_progressed:
                endings.progress()

    def _shares(self) -> ActorShares:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return shares_of(nodes, self._workers, self._gpus)


class _Actor:
    """One worker: its handle, and the answers that are awaited from it."""

    def __init__(self, kind: Any, job: Job) -> None:
        self.handle = kind.remote(job, os.getcwd())
        self.started = time.monotonic()
        self.task: Task | None = None
        self.is_ready = False
        self.is_ending = False
        self.answer = self.handle.load.remote()
        self.events = self.handle.events.remote()

    def give(self, task: Task) -> None:
        """Hand over a shard."""
        self.task = task
        self.answer = self.handle.draw.remote(task)

    def end(self) -> None:
        """Ask for an end after the batch."""
        self.is_ending = True
        self.handle.stop.remote()


class _ActorPool:
    """The actors of one cluster, and what is left to do.

    Attributes
    ----------
    has_progressed
        Whether anything was drawn.
    """

    def __init__(
        self,
        ray: Any,
        shares: ActorShares,
        actor: type[RayWorker],
        job: Job,
        tasks: collections.deque[Task],
        report: Report,
    ) -> None:
        self.has_progressed = False
        self._ray = ray
        self._job = job
        self._report = report
        self._tasks = tasks
        self._count = min(shares.actors, len(tasks))
        self._kind = ray.remote(
            num_gpus=shares.gpus, num_cpus=shares.cpus, max_restarts=0, max_concurrency=_THREADS
        )(actor)
        self._endings = Endings(self._count)
        self._actors: list[_Actor] = []

    def run(self, stop: Callable[[], bool]) -> None:
        """Draw all shards."""
        while True:
            if stop():
                self._tasks.clear()
                self._end_all()
            self._hand_out()
            if not self._actors:
                return
            self._listen()
            self._check_start()

    def kill(self) -> collections.deque[Task]:
        """End all actors now; return what is left to do."""
        for actor in self._actors:
            if actor.task is not None and not actor.is_ending:
                self._tasks.appendleft(Task(actor.task.shard, None))
            self._kill(actor)
        self._actors = []
        return self._tasks

    def _end_all(self) -> None:
        for actor in list(self._actors):
            if actor.task is None:
                self._drop(actor)
            elif not actor.is_ending:
                actor.end()

    def _hand_out(self) -> None:
        """Start actors where some are missing, and give each one shard at a time."""
        while len(self._actors) < self._count and self._waiting < len(self._tasks):
            self._actors.append(_Actor(self._kind, self._job))
        for actor in list(self._actors):
            if not actor.is_ready or actor.task is not None:
                continue
            if self._tasks:
                actor.give(self._tasks.popleft())
            elif all(other.task is None for other in self._actors):
                # Until then, another one may die and leave its shard.
                self._drop(actor)

    @property
    def _waiting(self) -> int:
        return sum(actor.task is None for actor in self._actors)

    def _listen(self) -> None:
        """Wait for answers and events."""
        awaited: dict[Any, _Actor] = {}
        for actor in self._actors:
            awaited[actor.events] = actor
            if actor.answer is not None:
                awaited[actor.answer] = actor
        done, _ = self._ray.wait(list(awaited), num_returns=1, timeout=_LOOK_UP)
        for reference in done:
            actor = awaited[reference]
            try:
                value = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._bury(actor, f"has died ({type(error).__name__})")
                return
            if reference is actor.answer:
                self._hear(actor, value)
            else:
                self._follow(value)
                actor.events = actor.handle.events.remote()

    def _follow(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, (UnitDrawn, AttemptFailed)):
                self.has_progressed = True
                self._endings.progress()
            self._report(event)

    def _hear(self, actor: _Actor, answer: Any) -> None:
        actor.answer = None
        if isinstance(answer, Answer):
            self._follow(answer.events)
            answer = answer.message
        if isinstance(answer, Ready):
            actor.is_ready = True
        elif isinstance(answer, Refused):
            raise answer.error
        elif isinstance(answer, Crashed):
            raise WorkersFailedError(
                f"a worker failed, which is not a unit's fault:\n{answer.text}"
            )
        elif isinstance(answer, Broken):
            self._bury(actor, f"has a device that is of no use any more ({answer.text})")
        else:
            actor.task = None

    def _bury(self, actor: _Actor, how: str) -> None:
        """Replace an actor; its shard is drawn by another one."""
        self._drop(actor)
        if actor.task is not None and not actor.is_ending:
            # What it has written by now is found there.
            self._tasks.appendleft(Task(actor.task.shard, None))
        if actor.is_ending:
            return
        self._check_alive()
        self._report(Note(f"a worker {how}; another one goes on"))
        self._endings.count(how)

    def _check_alive(self) -> None:
        """Raise _ClusterLostError unless a machine of the cluster is alive."""
        try:
            is_alive = any(node["Alive"] for node in self._ray.nodes())
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError):
            is_alive = False
        if not is_alive:
            raise _ClusterLostError("no machine of the Ray cluster is alive; run it again later.")

    def _check_start(self) -> None:
        """Give up if no actor starts: the cluster has no room, or has gone."""
        # There is none when the only one was dropped just now: the next round starts another.
        if not self._actors or any(actor.is_ready for actor in self._actors):
            return
        self._check_alive()
        if any(time.monotonic() - actor.started < _START for actor in self._actors):
            return
        raise WorkersFailedError(
            f"no worker has started in {_START:.0f} seconds. `ray status` shows whether the "
            "cluster has the resources that --workers and --gpus-per-worker ask for."
        )

    def _drop(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        self._kill(actor)

    def _kill(self, actor: _Actor) -> None:
        # It may be dead, and so may be the cluster.
        with contextlib.suppress(self._ray.exceptions.RayError, ConnectionError, RuntimeError):
            self._ray.kill(actor.handle)
