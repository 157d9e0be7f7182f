"""How much memory is free, and how freed memory is kept for the next step.

Each step allocates the same large tensors and frees them. The C library returns such blocks to the
system at once. Every page of the next ones must then be mapped and zeroed again, which can take as
long as computing their values.
"""

import contextlib
import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from fvfast.engine.captures import CAPTURES
from fvfast.engine.locks import free_after_fork

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1
_KEPT_ON_TOP = 64 * 2**20
# Where the C library's own adjustment of the thresholds ends (DEFAULT_MMAP_THRESHOLD_MAX).
_USUAL_MMAP_THRESHOLD = 32 * 2**20
_USUAL_TOP_PAD = 128 * 2**10

_what_can_go: list[Callable[[], None]] = []


def when_memory_is_needed(release: Callable[[], None]) -> None:
    """Register a function that frees what is kept only to save time."""
    _what_can_go.append(release)


def free_memory(device: torch.device) -> None:
    """Free everything that is kept only to save time, after a device ran out of memory."""
    for release in _what_can_go:
        release()
    gc.collect()
    if device.type == "cuda":
        CAPTURES.empty_cache()


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Keep freed memory in the process during this context; return it to the system at the end.

    Has an effect only with the GNU C library.

    References
    ----------
    mallopt(3), malloc_trim(3).
    """
    library = _gnu_library()
    if library is None:
        yield
        return
    _USERS.enter(library)
    try:
        yield
    finally:
        _USERS.leave(library)


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device; None if that is unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # torch's cached memory is free for torch's own use.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + kept
    if device.type != "cpu":
        return None
    limits = [limit for limit in (_system_memory(), group_memory()) if limit is not None]
    return min(limits, default=None)


def _system_memory() -> int | None:
    """Read what Linux says is available (proc(5), MemAvailable)."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])  # "MemAvailable:   123456 kB"
    return None


def group_memory(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return how many bytes of a container's limit are left (cgroups, version 2)."""
    limit, used = group / "memory.max", group / "memory.current"
    if not (limit.exists() and used.exists()) or limit.read_text().strip() == "max":
        return None
    # Cached files count as used, but are dropped when memory is needed.
    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    files = sum(int(statistics.get(name, 0)) for name in ("active_file", "inactive_file"))
    return max(0, int(limit.read_text()) - max(0, int(used.read_text()) - files))


def _gnu_library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


class _Users:
    """Counts the contexts that keep freed memory: the C library has one setting for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        free_after_fork(self)
        self._count = 0

    def enter(self, library: ctypes.CDLL) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                library.mallopt(_MMAP_THRESHOLD, _LARGEST)
                library.mallopt(_TRIM_THRESHOLD, _LARGEST)
                library.mallopt(_TOP_PAD, _KEPT_ON_TOP)

    def leave(self, library: ctypes.CDLL) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
                library.mallopt(_TRIM_THRESHOLD, 2 * _USUAL_MMAP_THRESHOLD)
                library.mallopt(_TOP_PAD, _USUAL_TOP_PAD)
                library.malloc_trim(0)


_USERS = _Users()
