"""Measures how busy other programs keep the machine."""

import os
from pathlib import Path

_STATISTICS = Path("/proc/stat")
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # user, nice, system, interrupts, soft interrupts, stolen


def busy_seconds() -> float | None:
    """Return the processor seconds used since boot, by all programs and other guests of the host.

    None if the system is not Linux, which alone provides them.
    """
    if not _STATISTICS.exists():
        return None
    ticks = [int(field) for field in _STATISTICS.read_text().split("\n", 1)[0].split()[1:]]
    return sum(ticks[field] for field in _BUSY_FIELDS) / os.sysconf("SC_CLK_TCK")


def share_of_others(
    before: float | None, after: float | None, own_seconds: float, wall_seconds: float
) -> float:
    """Return the share of the processors, 0 to 1, that others used; NaN if it is not known.

    Parameters
    ----------
    before, after
        `busy_seconds` at the beginning and at the end of the measurement.
    own_seconds
        Processor seconds of the measured code.
    wall_seconds
        Duration of the measurement.
    """
    if before is None or after is None:
        return float("nan")
    others = after - before - own_seconds
    return max(0.0, others / (wall_seconds * (os.cpu_count() or 1)))
