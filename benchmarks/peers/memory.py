"""Memory of this process, as Linux counts it; 0 on other systems."""

import ctypes
import sys
from pathlib import Path

_PROCESS = Path("/proc/self")


def current() -> int:
    """Return the bytes that are resident now."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most bytes that were resident at once since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Reset `peak` to the bytes that are resident now."""
    if sys.platform == "linux":
        (_PROCESS / "clear_refs").write_text("5")


def return_free_memory() -> None:
    """Have the C library return the freed memory that it has kept to the system, if it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(field: str) -> int:
    if sys.platform != "linux":
        return 0
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])  # "VmRSS:     1234 kB"
    return 0
