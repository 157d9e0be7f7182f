"""What a step launches on a GPU, as torch's profiler sees it."""

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

from benchmarks.gpu_report import Row

_OURS = re.compile(r"fvfast(?:::|4)cuda")
_SHORT = re.compile(r"fvfast::cuda::(\w+)")


class NothingSeenError(RuntimeError):
    """The profiler saw no kernel at all."""


@dataclasses.dataclass
class Launches:
    """What some steps did on the device.

    Attributes
    ----------
    steps
        How many.
    kernels
        Seconds of each launch, by the name of the kernel.
    copies
        Copies and fills of memory.
    """

    steps: int
    kernels: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    copies: int = 0

    def own(self) -> dict[str, list[float]]:
        """Return fvfast's kernels alone, by their short names."""
        found: dict[str, list[float]] = collections.defaultdict(list)
        for name, seconds in self.kernels.items():
            if _OURS.search(name):
                short = _SHORT.search(name)
                found[short[1] if short else name] += seconds
        return dict(found)

    def row(self) -> Row:
        """Return launches and device time per step."""
        everything = [seconds for times in self.kernels.values() for seconds in times]
        return {
            "kernels of fvfast": sum(map(len, self.own().values())) / self.steps,
            "kernels": len(everything) / self.steps,
            "copies and fills": self.copies / self.steps,
            "device us in kernels": 1e6 * sum(everything) / self.steps,
        }


def read_trace(trace: dict[str, Any], steps: int) -> Launches:
    """Read what torch's profiler exports, in the format of Chrome's traces."""
    launches = Launches(steps)
    for event in trace["traceEvents"]:
        category = event.get("cat")
        if category == "kernel":
            # In microseconds.
            launches.kernels.setdefault(event["name"], []).append(1e-6 * event["dur"])
        elif category in ("gpu_memcpy", "gpu_memset"):
            launches.copies += 1
    return launches


def profile_steps(
    step: Callable[[], object], synchronize: Callable[[], object], steps: int = 20
) -> Launches:
    """Profile some steps, after one that is not counted.

    Raises
    ------
    NothingSeenError
        The profiler saw no kernel at all.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    # What the profiler sets up on first use must not be in the way of what counts.
    for count in (1, steps):
        step()
        synchronize()
        with torch.profiler.profile(activities=activities) as profile:
            for _ in range(count):
                step()
            synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        launches = read_trace(json.loads(path.read_text()), steps)
    if not launches.kernels:
        raise NothingSeenError(
            "torch's profiler saw no kernel on the device: CUPTI does not work here, or another "
            "profiler is in the way"
        )
    return launches


def kernel_rows(launches: Launches, needed: dict[str, int], bandwidth: float) -> list[Row]:
    """Return fvfast's kernels of a step, one row each.

    Parameters
    ----------
    launches
        Of fvfast's step.
    needed
        Bytes that each kernel must move.
    bandwidth
        Of a copy, in bytes per second.
    """
    rows: list[Row] = []
    for name, seconds in launches.own().items():
        median, size = statistics.median(seconds), needed.get(name, float("nan"))
        rows.append(
            {
                "kernel": name,
                "launches per step": len(seconds) / launches.steps,
                "us": 1e6 * median,
                "MB": size / 1e6,
                "GB/s": size / median / 1e9,
                "% of copy": 100 * size / median / bandwidth,
            }
        )
    return rows
