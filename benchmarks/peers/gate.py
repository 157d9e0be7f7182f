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

from benchmarks.peers import memory
from benchmarks.peers.scene import Scene

ENDLESS = 100_000
"""Number of steps to ask a library for. No contest takes as many: the gate ends the run."""


def finish_work() -> None:
    """Wait until the device has finished the steps of a turn. On the CPU nothing is to be done."""


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
        What the first answer says about the library.
    """

    def __init__(self, requests: TextIO, answers: TextIO, versions: dict[str, str]) -> None:
        self.requests = requests
        self.answers = answers
        self.versions = versions
        self.calls = 0
        self.steps = 0
        self.remaining = 0
        self.measures_memory = False
        self.memory_before_run = memory.current()
        self.wall = self.cpu = 0.0
        self._start_clock()

    def __call__(self) -> None:
        """Let the library go on, or answer and wait for the next request."""
        self.calls += 1
        if self.calls == 1:
            return
        if self.calls == 2:
            finish_work()
            self._answer({**self.versions, "first_step_seconds": time.perf_counter() - self.wall})
        else:
            self.remaining -= 1
            if self.remaining > 0:
                return
            # Only at the end of a turn: until then a library may run ahead of the device.
            finish_work()
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
            # A step does not need the memory that the allocator merely keeps for later.
            memory.return_free_memory()
            memory.reset_peak()
            self.memory_between_steps = memory.current()
        self._start_clock()

    def _start_clock(self) -> None:
        self.cpu = _cpu_seconds()
        self.wall = time.perf_counter()

    def _measurement(self) -> dict[str, Any]:
        wall, cpu = time.perf_counter() - self.wall, _cpu_seconds() - self.cpu
        if self.measures_memory:
            peak = memory.peak()
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


def serve(prepare: Callable[[Scene], tuple[dict[str, str], Callable[[Gate], object]]]) -> None:
    """Run a worker on standard input and output until the input ends.

    Parameters
    ----------
    prepare
        Loads the library and the network of a scene. Returns the versions of library and framework,
        and a function that runs the library, which must call the gate once per step.
    """
    # Libraries print to standard output: keep that apart from the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    versions, run = prepare(Scene.from_json(sys.stdin.readline()))
    gate = Gate(sys.stdin, answers, {**versions, "python": platform.python_version()})
    try:
        run(gate)
    except Finished:
        return
    raise RuntimeError(f"the library ended on its own after {gate.calls} steps")
