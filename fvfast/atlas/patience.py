"""Waits for a place that is away, or a disk that is full, and says so."""

import errno
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from fvfast._shared.messages import printable

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds for which a place that has gone is waited for."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Mistakes, which waiting does not mend.
_MISTAKES = (
    PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError, NotImplementedError,
    ValueError, TypeError, ImportError, AttributeError, LookupError,
)  # fmt: skip


class PlaceLostError(OSError):
    """A place has gone, and did not come back while it was waited for."""


class GoneError(OSError):
    """A folder is not there, which is not the same as an empty one: a disk was unmounted."""


class Patience:
    """Does things again while a place is away. Methods may be called from several threads.

    Parameters
    ----------
    address
        Of the place, for messages.
    seconds
        For which it is waited for. With 0, errors of the system are raised as they are.
    say
        Called with a line when the place goes away, and when it is back.
    sleep
        Waits.
    """

    def __init__(
        self,
        address: str,
        seconds: float,
        say: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._address, self._seconds = address, seconds
        self._say, self._sleep = say, sleep
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def persist(self, act: Callable[[], T], what: str, *, missing: bool = True) -> T:
        """Do something until it succeeds, or the patience is at its end.

        Parameters
        ----------
        act
            Does it.
        what
            What it does, for the message.
        missing
            Whether a file that is not there is raised at once.

        Raises
        ------
        PlaceLostError
            The place stayed away, or full.
        Exception
            A mistake, which waiting does not mend.
        """
        mistakes = (*_MISTAKES, FileNotFoundError) if missing else _MISTAKES
        pause = _FIRST_PAUSE
        deadline: float | None = None
        while True:
            try:
                result = act()
            except mistakes:
                raise
            except Exception as error:
                # Whatever a library of storage raises while the network is down.
                if not self._seconds and isinstance(error, OSError):
                    raise
                now = time.monotonic()
                deadline = now + self._seconds if deadline is None else deadline
                if now >= deadline:
                    raise PlaceLostError(self._lost(what, error)) from error
                self._say_away(error)
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if deadline is not None:
                    self._say_back()
                return result

    def _lost(self, what: str, error: Exception) -> str:
        if not self._seconds:
            return f"{self._address}: cannot {what} ({described(error)})."
        return (
            f"{self._address}: cannot {what} since {self._seconds:.0f} seconds "
            f"({described(error)}). What was drawn before is there; run the same command again "
            "when the place is back."
        )

    def _say_away(self, error: Exception) -> None:
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = time.monotonic()
        wait = f"waiting for up to {self._seconds:.0f} seconds"
        if isinstance(error, OSError) and error.errno in _FULL:
            self._say(f"the disk of {self._address} is full: make room there; {wait}.")
        else:
            self._say(f"{self._address} cannot be reached ({described(error)}); {wait}.")

    def _say_back(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            self._say(f"{self._address} is back after {time.monotonic() - since:.0f} seconds.")


def described(error: Exception) -> str:
    """Return an error in one line: its type, and what it says."""
    if isinstance(error, GoneError):
        return str(error)
    text = getattr(error, "strerror", None) or str(error).strip()
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)
