"""What benchmarks share: timing in turns, a description of the machine, its memory's speed."""

import csv
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str | int]:
    """Describe the machine and the versions on which numbers were measured."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "processor": processor_name(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor_name() -> str:
    """Return the system's name of the processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def alternating_medians(
    functions: dict[str, Callable[[], object]],
    *,
    rounds: int = 21,
    warm_up: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Measure the median seconds of each function, by a clock.

    The functions take turns, so that a change of the clock rate or another busy program affects all
    of them alike.
    """
    for _ in range(warm_up):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def processor_milliseconds(function: Callable[[], object], rounds: int = 21) -> float:
    """Measure the least processor time of one call on one thread, in milliseconds.

    Other busy programs hardly change it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return round(1e3 * min(seconds), 3)


def copy_function(size: int) -> Callable[[], object]:
    """Return a function that copies ``size`` bytes: it reads and writes 2 * ``size`` in all."""
    source = torch.zeros(size, dtype=torch.uint8)
    target = torch.zeros(size, dtype=torch.uint8)
    return lambda: target.copy_(source)


def save_row(name: str, row: dict[str, str | int | float]) -> Path:
    """Append one row to ``results/<name>.csv``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    return path
