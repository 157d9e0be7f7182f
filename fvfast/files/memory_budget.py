"""Shares memory between threads."""

import contextlib
import threading
from collections.abc import Iterator


class MemoryBudget:
    """Shares a number of bytes between threads; each waits until its part is free."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, count: int) -> Iterator[None]:
        """Hold a part, or all if it is more; no thread may hold two."""
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
