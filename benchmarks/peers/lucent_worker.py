"""Lucent, or `fvfast.lucent` in its place: the same script, apart from its imports.

Answers requests until its input ends, each a line of JSON::

    in   {"layer": "_fc", "unit": 88, "seed": 0, "steps": 128, "robust": true, "file": "a.npy"}
    out  {"first_seconds": ..., "seconds": ..., "cpu_seconds": ...}

``first_seconds`` are those from the call to the end of the first step, the others those of each
step after it. The images after the first step and at the end are saved in the file, (2, H, W, C).
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np
import torch

from fvfast.models import LoadedModel, load_model


class Clock:
    """Measures the steps of an optimizer."""

    def __init__(self) -> None:
        self.steps = 0
        self.began = (time.perf_counter(), time.process_time())
        self.first = self.last = self.began

    def step_taken(self) -> None:
        """Note that a step has ended."""
        self.steps += 1
        self.last = (time.perf_counter(), time.process_time())
        if self.steps == 1:
            self.first = self.last

    def measurement(self) -> dict[str, float]:
        """Return seconds up to the end of the first step, and per step from then on."""
        seconds, cpu_seconds = (
            (last - first) / max(1, self.steps - 1)
            for first, last in zip(self.first, self.last, strict=True)
        )
        return {
            "first_seconds": self.first[0] - self.began[0],
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
        }


def timed_adam(clock: Clock) -> Any:
    """Return a function that makes Lucent's optimizer, whose steps are measured."""

    class TimedAdam(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            clock.step_taken()
            return loss

    return lambda params: TimedAdam(params, lr=5e-2)


def draw(
    optvis: dict[str, ModuleType], network: LoadedModel, request: dict[str, Any]
) -> tuple[np.ndarray[Any, Any], dict[str, float]]:
    """Draw one unit as a script of Lucent does."""
    render, param, transform = (optvis[name] for name in ("render", "param", "transform"))
    low, high = network.values_range
    transforms = list(transform.standard_transforms) if request["robust"] else []
    transforms.append(lambda images: low + (high - low) * images)
    torch.manual_seed(request["seed"])
    np.random.seed(request["seed"])  # Lucent's transforms draw from it
    random.seed(request["seed"])
    clock = Clock()
    images = render.render_vis(
        network.model,
        f"{request['layer']}:{request['unit']}",
        lambda: param.image(128),
        optimizer=timed_adam(clock),
        transforms=transforms,
        thresholds=(1, request["steps"]),
        preprocess=False,
        progress=False,
        show_image=False,
    )
    return np.concatenate(images), clock.measurement()


def main() -> None:
    """Serve standard input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", choices=("lucent", "fvfast.lucent"), required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with contextlib.redirect_stdout(sys.stderr):  # libraries print to standard output
        network = load_model("efficientnet_lite0")
        optvis = {
            name: importlib.import_module(f"{arguments.package}.optvis.{name}")
            for name in ("render", "param", "transform")
        }
        for line in sys.stdin:
            request = json.loads(line)
            images, measured = draw(optvis, network, request)
            np.save(request["file"], images)
            print(json.dumps(measured), file=answers, flush=True)


if __name__ == "__main__":
    main()
