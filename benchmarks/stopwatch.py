"""A clock that can be paused during a measurement."""

import time

from benchmarks.load import busy_seconds, share_of_others


class Stopwatch:
    """Adds up the time between `start` and `stop`.

    Attributes
    ----------
    seconds, cpu_seconds
        By the wall clock, and of all threads of this process together.
    busy
        Processor seconds of all programs; None if the system does not provide them.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.busy: float | None = 0.0
        self._began: tuple[float, float, float | None] | None = None

    def start(self) -> None:
        """Start the clock."""
        self._began = (time.perf_counter(), time.process_time(), busy_seconds())

    def stop(self) -> None:
        """Stop the clock."""
        assert self._began is not None, "the stopwatch is not running"
        wall, cpu, busy = self._began
        self._began = None
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu
        now = busy_seconds()
        known = busy is not None and now is not None and self.busy is not None
        self.busy = self.busy + now - busy if known else None

    def other_load_percent(self) -> float:
        """Return the share of the processors that other programs used, in percent."""
        share = share_of_others(
            None if self.busy is None else 0.0, self.busy, self.cpu_seconds, self.seconds
        )
        return round(100 * share, 1)
