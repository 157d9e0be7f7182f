"""Limits the memory that several threads use together."""

import contextlib
import threading
from collections.abc import Iterator


class MemoryBudget:
    """A number of bytes that threads share; each waits until the bytes it needs are free."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, count: int) -> Iterator[None]:
        """Reserve bytes, at most all; a thread must not hold two reservations."""
        count = min(count, self.size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()
