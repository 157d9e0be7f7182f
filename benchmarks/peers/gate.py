"""The worker's side of a contest: stops a library between two steps, and times the steps.

A worker reads one scene, starts its library, and answers requests until its input ends. All
messages are lines of JSON:

    in   the scene
    out  {"library": ..., "framework": ..., "python": ..., "first_step_seconds": ...}
    in   {"steps": 4}                  out  {"seconds": ..., "cpu_seconds": ...}, per step
    in   {"steps": 4, "memory": true}  out  {"step_bytes": ..., "run_bytes": ...}

This module needs only the standard library, because it runs in the environments of all libraries.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from benchmarks.peers import memory as process_memory
from benchmarks.peers.scene import Scene

ENDLESS = 100_000
"""Number of steps to ask a library for. No contest takes as many: the gate ends the run."""


def _nothing_to_finish() -> None:
    """Return at once: a step on the processor is done when it has been taken."""


class Finished(BaseException):
    """Ends a library's loop.

    Not an `Exception`: the library must not handle it.
    """


class Gate:
    """A function that a library calls once per step, always at the same point of its loop.

    From one call to the next exactly one step passes, wherever that point is. The first call comes
    before the first step has done its work, the second call after it.

    Parameters
    ----------
    requests, answers
        Streams from which JSON lines are read, and to which they are written.
    versions
        What the first answer tells about the library.
    finish_work
        Waits for a device that still works on the steps of a turn.
    memory
        Has the functions of `benchmarks.peers.memory`, for the memory that is measured.
    """

    def __init__(
        self,
        requests: TextIO,
        answers: TextIO,
        versions: dict[str, str],
        *,
        finish_work: Callable[[], object] = _nothing_to_finish,
        memory: Any = process_memory,
    ) -> None:
        self.finish_work = finish_work
        self.memory = memory
        self.requests = requests
        self.answers = answers
        self.versions = versions
        self.calls = 0
        self.steps = 0
        self.remaining = 0
        self.measures_memory = False
        self.memory_before_run = self.memory.current()
        self.wall = self.cpu = 0.0
        self._start_clock()

    def __call__(self) -> None:
        """Let the library go on, or answer and wait for the next request."""
        self.calls += 1
        if self.calls == 1:
            return
        if self.calls == 2:
            self.finish_work()
            self._answer({**self.versions, "first_step_seconds": time.perf_counter() - self.wall})
        else:
            self.remaining -= 1
            if self.remaining > 0:
                return
            # Only here: a library that runs ahead of the device may do so in all steps of a turn.
            self.finish_work()
            self._answer(self._measurement())
        self._wait_for_request()

    def _wait_for_request(self) -> None:
        line = self.requests.readline()
        if not line:
            raise Finished
        request = json.loads(line)
        self.steps = self.remaining = request["steps"]
        self.measures_memory = request.get("memory", False)
        if self.measures_memory:
            # What the allocator merely keeps for later is not what a step needs.
            self.memory.return_free_memory()
            self.memory.reset_peak()
            self.memory_between_steps = self.memory.current()
        self._start_clock()

    def _start_clock(self) -> None:
        self.cpu = _cpu_seconds()
        self.wall = time.perf_counter()

    def _measurement(self) -> dict[str, Any]:
        wall, cpu = time.perf_counter() - self.wall, _cpu_seconds() - self.cpu
        if self.measures_memory:
            peak = self.memory.peak()
            return {
                "step_bytes": peak - self.memory_between_steps,
                "run_bytes": peak - self.memory_before_run,
            }
        return {"seconds": wall / self.steps, "cpu_seconds": cpu / self.steps}

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self.answers, flush=True)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)  # of all threads
    return usage.ru_utime + usage.ru_stime


def serve(
    prepare: Callable[[Scene], tuple[dict[str, str], Callable[[Gate], object]]], **device: Any
) -> None:
    """Run a worker on standard input and output until the input ends.

    Parameters
    ----------
    prepare
        Loads the library and the network of a scene. Returns the versions of library and framework,
        and a function that runs the library, which must call the gate once per step.
    device
        ``finish_work`` and ``memory`` of a `Gate`, where it is not the processor that is timed.
    """
    # Libraries print to standard output: keep that apart from the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    versions, run = prepare(Scene.from_json(sys.stdin.readline()))
    gate = Gate(sys.stdin, answers, {**versions, "python": platform.python_version()}, **device)
    try:
        run(gate)
    except Finished:
        return
    raise RuntimeError(f"the library ended on its own after {gate.calls} steps")
