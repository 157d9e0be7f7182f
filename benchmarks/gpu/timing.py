"""Clocks for work on a GPU: they measure calls as one graph, and so without Python's time."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from benchmarks.gpu.machine import l2_bytes

Call = Callable[[], object]

SMALLEST_COLD_BYTES = 256 * 2**20
COPY_BYTES = 2**30
_FEWEST_CYCLES, _MOST_CYCLES = 2**18, 2**32  # a tenth of a millisecond, a few seconds


class Replay(Protocol):
    """Calls that were made one launch; it keeps their results."""

    def __call__(self) -> None:
        """Make all calls once."""
        ...


class Clock(Protocol):
    """Measures calls that follow each other."""

    cold_bytes: int
    """Bytes after whose use a cache holds nothing that was used before."""
    copy_bytes: int
    """Size of a copy that is too large for any cache."""
    warm_calls: int
    """How many calls on the same arrays are measured together."""

    def seconds(self, calls: Sequence[Call], *, rounds: int) -> float:
        """Return the median seconds of all calls together."""
        ...

    def replay(self, calls: Sequence[Call]) -> Replay:
        """Return all calls as one launch."""
        ...


class CapturedCalls:
    """Calls in a CUDA graph.

    Parameters
    ----------
    calls
        They must have run before, and must not wait for the device. The results of all calls are
        kept, so no two share memory.
    stream
        The stream on which they are captured.
    """

    def __init__(self, calls: Sequence[Call], stream: torch.cuda.Stream) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.results: list[Any] = []
        # Not with torch.cuda.graph, whose garbage collection takes longer than everything else.
        # During the capture no garbage must be collected: not everything may be freed then.
        collects = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.stream(stream):
                self.graph.capture_begin()
                try:
                    for call in calls:
                        self.results.append(call())
                finally:
                    self.graph.capture_end()
        finally:
            if collects:
                gc.enable()

    def __call__(self) -> None:
        """Replay them."""
        self.graph.replay()


class GraphClock:
    """Measures the device's time for the replay of a graph.

    The device is kept busy while the host queues the replay, so that it never waits for the host.
    If the replay was not queued in time, the device is kept busy for longer the next time.

    Parameters
    ----------
    device
        A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.side = torch.cuda.Stream(device)
        self.cycles = _FEWEST_CYCLES
        self.cold_bytes = max(SMALLEST_COLD_BYTES, 4 * l2_bytes(device))
        self.copy_bytes = COPY_BYTES
        self.warm_calls = 20

    def replay(self, calls: Sequence[Call]) -> CapturedCalls:
        """Return all calls as one graph, after running each once."""
        self.side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.side):  # sets up what first use needs
            for call in calls:
                call()
        # A capture must not begin while memory is still in use by a stream that frees it.
        torch.cuda.synchronize(self.device)
        return CapturedCalls(calls, self.side)

    def seconds(self, calls: Sequence[Call], *, rounds: int = 15) -> float:
        """Return the median seconds of all calls together.

        Raises
        ------
        RuntimeError
            The host could not queue the replay while the device was busy.
        """
        replay = self.replay(calls)
        for _ in range(2):
            replay()
        return statistics.median(self._once(replay) for _ in range(rounds))

    def _once(self, replay: CapturedCalls) -> float:
        while self.cycles <= _MOST_CYCLES:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(self.device)
            torch.cuda._sleep(self.cycles)
            start.record()
            replay()
            end.record()
            in_time = not start.query()
            end.synchronize()
            if in_time:
                return 1e-3 * start.elapsed_time(end)
            self.cycles *= 2
        self.cycles = _FEWEST_CYCLES
        raise RuntimeError("the device had nothing to do while the replay of a graph was queued")


class PlainCalls:
    """Replaces a graph of calls in a rehearsal."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls

    def __call__(self) -> None:
        """Make them."""
        for call in self.calls:
            call()


class WallClock:
    """Replaces `GraphClock` in a rehearsal: measures calls by the wall clock."""

    cold_bytes = 2**14
    copy_bytes = 2**20
    warm_calls = 2

    def replay(self, calls: Sequence[Call]) -> PlainCalls:
        """Return the calls."""
        return PlainCalls(calls)

    def seconds(self, calls: Sequence[Call], *, rounds: int = 15) -> float:
        """Return the median seconds of all calls together, of three rounds at most."""
        replay = self.replay(calls)
        times = []
        for _ in range(min(rounds, 3)):
            start = time.perf_counter()
            replay()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def copy_bandwidth(device: torch.device, clock: Clock) -> float:
    """Measure bytes per second, read and written together, of a copy of a large tensor."""
    source = torch.ones(clock.copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * clock.copy_bytes / clock.seconds([lambda: target.copy_(source)], rounds=15)
