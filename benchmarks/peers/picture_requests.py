"""The worker's side of `benchmarks.quality_artists`: draws pictures with a library's own code.

All messages are lines of JSON. Image paths are relative to the worker's own folder, which is empty.

    in   {"weights": ..., "threads": ..., "values_range": [low, high], "model_size": ...}
    out  {}
    in   {"class_index": ..., "seed": ..., "nb_steps": ...}
    out  {"image": path of an array (C, H, W), "seconds": ..., "cpu_seconds": ...}, per step

This module needs only numpy, because it runs in the environments of all libraries.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Draw = Callable[[int, int, int, Callable[[], None]], Any]
"""Draws a class, with a seed, in some steps; calls a function once in each step. Returns an array
(C, H, W)."""


class StepClock:
    """Times the steps after the first, in which libraries set up."""

    def __init__(self) -> None:
        self.calls = 0
        self._wall = self._cpu = 0.0

    def __call__(self) -> None:
        """Count a step; called once in each."""
        self.calls += 1
        if self.calls == 2:
            self._wall, self._cpu = time.perf_counter(), time.process_time()

    def per_step(self) -> dict[str, float]:
        """Return the mean seconds of a step; called after the last."""
        steps = self.calls - 1
        if steps < 1:
            raise ValueError(f"only {self.calls} step was taken; expected two or more.")
        return {
            "seconds": (time.perf_counter() - self._wall) / steps,
            "cpu_seconds": (time.process_time() - self._cpu) / steps,
        }


def serve(prepare: Callable[[dict[str, Any]], Draw]) -> None:
    """Answer requests until the input ends.

    Parameters
    ----------
    prepare
        Loads the network that the first request describes, and returns what draws.
    """
    # What libraries print must not stand between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    draw = prepare(json.loads(sys.stdin.readline()))
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        clock = StepClock()
        image = draw(request["class_index"], request["seed"], request["nb_steps"], clock)
        times = clock.per_step()
        path = Path("image.npy").resolve()
        np.save(path, np.asarray(image, dtype=np.float32))
        print(json.dumps({"image": str(path), **times}), file=answers, flush=True)
