"""What the console command does before torch is imported, which takes seconds.

Nothing is at stake then, so Ctrl-C ends the process with one word instead of a traceback through
the imports. Nothing here may import anything that takes long.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

_NAMES = frozenset({"fvfast", "fvfast.exe", "fvfast-script.py"})
# Some tens of microseconds, which costs a step alone next to nothing: benchmarks.beside_others.
_SPINS = "3000"
_MODULES = frozenset({"fvfast", "fvfast.__main__"})


def is_command(arguments: list[str], original: list[str]) -> bool:
    """Whether a process is the console command ``fvfast``, or ``python -m fvfast``.

    Parameters
    ----------
    arguments, original
        ``sys.argv`` and ``sys.orig_argv``, as they are while the package is imported.
    """
    if not arguments:
        return False
    if arguments[0] == "-m":  # what Python says while it looks for the module
        number = next(n for n, one in enumerate(original) if one.startswith("-m"))
        module = original[number].removeprefix("-m") or original[number + 1]
        return module in _MODULES
    return Path(arguments[0]).name in _NAMES


def open_closed_streams() -> None:
    """Put the null device where standard streams are closed.

    A file opened later, such as a picture, would otherwise get the number of standard output, and
    whatever writes there would write into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)


def quit_on_interrupt() -> None:
    """Let Ctrl-C end the process at once, unless it is ignored (``nohup``, ``&`` in a script)."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _quit)


def quit_with(status: int) -> None:
    """Let Ctrl-C and SIGTERM end the process at once with a status that is known by now."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        os._exit(status)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


def _quit(number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


def wait_briefly() -> None:
    """Let threads that wait for others go to sleep soon, unless the user says how they wait.

    Threads of GNU's OpenMP keep their cores busy for milliseconds first, and beside other busy
    programs a step then takes many times as long. The library reads this when torch loads it.
    """
    if not any(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        os.environ["GOMP_SPINCOUNT"] = _SPINS


# In any other program, importing the package changes nothing.
if is_command(sys.argv, sys.orig_argv):
    open_closed_streams()
    quit_on_interrupt()
    wait_briefly()
