"""Finds what a step launches on a GPU and how often it waits, with torch's profiler."""

import collections
import dataclasses
import json
import re
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.emulated_launches import traced_launches
from benchmarks.gpu.kernel_names import is_own, short_name
from benchmarks.gpu.place import Place
from benchmarks.gpu.records import Record

_WAITS = re.compile(r"cu(da)?(Device|Stream|Event|Ctx)Synchronize")


class NothingSeenError(RuntimeError):
    """The profiler saw no kernel at all."""


@dataclasses.dataclass
class Launches:
    """What some steps did on the device.

    Attributes
    ----------
    steps
        Number of steps.
    kernels
        Seconds of each launch, by the name of the kernel.
    copies
        Number of copies and fills of memory.
    calls
        How often the host launched a kernel or a graph.
    graphs
        How often the host launched a graph.
    waits
        How often the host waited for the device.
    """

    steps: int
    kernels: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    copies: int = 0
    calls: int = 0
    graphs: int = 0
    waits: int = 0

    def own(self) -> dict[str, list[float]]:
        """Return fvfast's kernels alone, by their short names."""
        found: dict[str, list[float]] = collections.defaultdict(list)
        for name, seconds in self.kernels.items():
            if is_own(name):
                found[short_name(name)] += seconds
        return dict(found)

    def row(self) -> Record:
        """Return counts and device time per step."""
        everything = [seconds for times in self.kernels.values() for seconds in times]
        return {
            "kernels of fvfast": sum(map(len, self.own().values())) / self.steps,
            "kernels": len(everything) / self.steps,
            "copies and fills": self.copies / self.steps,
            "launches": self.calls / self.steps,
            "graph launches": self.graphs / self.steps,
            "waits": self.waits / self.steps,
            "us in kernels": 1e6 * sum(everything) / self.steps,
        }


def read_trace(trace: dict[str, Any], steps: int) -> Launches:
    """Read a trace that torch's profiler has exported, in Chrome's format."""
    launches = Launches(steps)
    for event in trace["traceEvents"]:
        category, name = event.get("cat"), event.get("name", "")
        if category == "kernel":
            # In microseconds.
            launches.kernels.setdefault(name, []).append(1e-6 * event["dur"])
        elif category in ("gpu_memcpy", "gpu_memset"):
            launches.copies += 1
        elif category in ("cuda_runtime", "cuda_driver"):
            launches.graphs += "GraphLaunch" in name
            launches.calls += "Launch" in name
            launches.waits += bool(_WAITS.match(name))
    return launches


class Profiler:
    """Watches what runs between `start` and `stop`.

    Parameters
    ----------
    place
        Where the code runs. In a rehearsal the launches of emulated kernels are recorded.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._context: Any = None
        self._watched: Any = None

    def start(self) -> None:
        """Start the profiler."""
        self.place.synchronize()
        if self.place.is_gpu:
            activities = torch.profiler.ProfilerActivity
            self._context = torch.profiler.profile(activities=[activities.CPU, activities.CUDA])
        else:
            self._context = traced_launches()
        self._watched = self._context.__enter__()

    def stop(self, steps: int) -> Launches:
        """Stop the profiler, and return what a number of steps did.

        Raises
        ------
        NothingSeenError
            The profiler saw no kernel at all.
        """
        self.place.synchronize()
        self._context.__exit__(None, None, None)
        if self.place.is_gpu:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "trace.json"
                self._watched.export_chrome_trace(str(path))
                trace = json.loads(path.read_text())
        else:
            trace = self._watched
        launches = read_trace(trace, steps)
        if not launches.kernels:
            raise NothingSeenError(
                "torch's profiler saw no kernel on the device: CUPTI does not work here, or "
                "another profiler is in the way"
            )
        return launches


def profile_calls(place: Place, call: Callable[[], object], steps: int) -> Launches:
    """Profile a call that takes some steps, after one that is not counted.

    Raises
    ------
    NothingSeenError
        The profiler saw no kernel at all.
    """
    call()
    profiler = Profiler(place)
    profiler.start()
    call()
    return profiler.stop(steps)


def kernel_rows(launches: Launches, needed: dict[str, int], bandwidth: float) -> list[Record]:
    """Return fvfast's kernels of a step, one row each.

    Parameters
    ----------
    launches
        The launches of fvfast's step.
    needed
        Bytes that each kernel must move.
    bandwidth
        Bandwidth of a copy, in bytes per second.
    """
    rows: list[Record] = []
    for name, seconds in launches.own().items():
        median, size = statistics.median(seconds), needed.get(name, float("nan"))
        rows.append(
            {
                "kernel": name,
                "us": 1e6 * median,
                "slowest us": 1e6 * max(seconds),
                "MB": size / 1e6,
                "floor us": 1e6 * size / bandwidth,
                "% of copy": 100 * size / median / bandwidth,
                "launches per step": len(seconds) / launches.steps,
            }
        )
    return rows
