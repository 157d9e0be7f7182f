"""Clocks for work on a GPU: of the device alone, and of the whole step with its host."""

import statistics
from collections.abc import Callable

import torch

from benchmarks.gpu_machine import l2_bytes
from benchmarks.harness import alternating_medians

Sample = Callable[[Callable[[], object], bool], float]
"""Seconds of one call of a function; True: with a cache that holds nothing of its data."""

WARM_CALLS = 10
"""Calls in one sample with a warm cache."""

SMALLEST_FLUSH = 256 * 2**20
COPY_BYTES = 2**30
_MOST_CYCLES = 2**32  # a few seconds


class DeviceClock:
    """Measures what the device takes for calls that are all queued before it begins them.

    The device is kept busy while the host queues the calls: so neither the time that Python takes
    nor gaps between launches are measured. It is checked that this was so, and that time is made
    longer until it is.

    Parameters
    ----------
    device
        A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cycles = 2**21
        size = max(SMALLEST_FLUSH, 4 * l2_bytes(device))
        # Is read, not written: what it leaves in the cache need not be written back.
        self.other_data = torch.ones(size // 4, dtype=torch.int32, device=device)

    def __call__(self, function: Callable[[], object], cold: bool) -> float:
        """Return the seconds of one call; see `Sample`.

        Raises
        ------
        RuntimeError
            The function waits for the device, which cannot be measured in this way.
        """
        while self.cycles <= _MOST_CYCLES:
            seconds = self._try(function, cold)
            if seconds is not None:
                return seconds
            self.cycles *= 2
        self.cycles = 2**21
        raise RuntimeError(
            "the device had nothing to do while calls were queued: the function waits for it"
        )

    def _try(self, function: Callable[[], object], cold: bool) -> float | None:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        calls = 1 if cold else WARM_CALLS
        torch.cuda.synchronize(self.device)
        torch.cuda._sleep(self.cycles)
        if cold:
            self.other_data.sum()
        start.record()
        for _ in range(calls):
            function()
        end.record()
        in_time = not start.query()
        end.synchronize()
        return 1e-3 * start.elapsed_time(end) / calls if in_time else None


def device_medians(
    functions: dict[str, Callable[[], object]],
    sample: Sample,
    *,
    rounds: int = 31,
    warm_up: int = 3,
    cold: bool = False,
) -> dict[str, float]:
    """Median seconds of one call of each function, taking turns.

    Parameters
    ----------
    functions
        What to measure.
    sample
        A `DeviceClock`.
    rounds
        Samples of each.
    warm_up
        Calls of each before the first sample.
    cold
        Whether each call finds a cache without its data. Else it finds what the call before left.

    Returns
    -------
    seconds
        By name.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            seconds[name].append(sample(function, cold))
    return {name: statistics.median(times) for name, times in seconds.items()}


def wall_medians(
    steps: dict[str, Callable[[], object]],
    synchronize: Callable[[], object],
    *,
    calls: int = 10,
    rounds: int = 11,
) -> dict[str, float]:
    """Median seconds of one step of each kind on the clock on the wall, taking turns.

    Parameters
    ----------
    steps
        What to measure.
    synchronize
        Waits for the device.
    calls
        Steps of a turn, after which the device is waited for once.
    rounds
        Turns of each.

    Returns
    -------
    seconds
        By name.
    """

    def turn(step: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(calls):
                step()
            synchronize()

        return run

    turns = {name: turn(step) for name, step in steps.items()}
    medians = alternating_medians(turns, rounds=rounds, warm_up=1)
    return {name: seconds / calls for name, seconds in medians.items()}


def copy_bandwidth(device: torch.device, sample: Sample, size: int = COPY_BYTES) -> float:
    """Bytes per second, read and written together, of a copy of a large tensor on the device."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = device_medians({"copy": lambda: target.copy_(source)}, sample)["copy"]
    return 2 * size / seconds
