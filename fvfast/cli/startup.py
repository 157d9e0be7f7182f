"""Prepares the process of the console command before torch is imported, which takes seconds.

Nothing can be lost at that time, so Ctrl-C ends the process with one word instead of a traceback.
This module must not import anything that takes long.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

_NAMES = frozenset({"fvfast", "fvfast.exe", "fvfast-script.py"})
# Some tens of microseconds, which hardly slows a step down: see benchmarks.beside_others.
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
    if arguments[0] == "-m":  # as long as Python is looking for the module
        number = next(n for n, one in enumerate(original) if one.startswith("-m"))
        module = original[number].removeprefix("-m") or original[number + 1]
        return module in _MODULES
    return Path(arguments[0]).name in _NAMES


def open_closed_streams() -> None:
    """Open the null device in place of standard streams that are closed.

    Otherwise a file that is opened later, such as a picture, could get the file descriptor of
    standard output, and everything printed would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # This gets the lowest free descriptor, which is this one.
            os.open(os.devnull, os.O_RDWR)


def quit_on_interrupt() -> None:
    """Let Ctrl-C end the process at once, unless it is ignored (``nohup``, ``&`` in a script)."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _quit)


def quit_with(status: int) -> None:
    """Let Ctrl-C and SIGTERM end the process at once, with a given exit status."""

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
    """Let waiting threads go to sleep soon, unless the user has set how they wait.

    By default, threads of GNU's OpenMP keep their cores busy for milliseconds while they wait;
    beside other busy programs a step then takes many times as long. The library reads the variable
    when torch loads it.
    """
    if not any(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        os.environ["GOMP_SPINCOUNT"] = _SPINS


# In any other program, importing this package has no such effects, but for how threads wait.
if is_command(sys.argv, sys.orig_argv):
    open_closed_streams()
    quit_on_interrupt()
if "torch" not in sys.modules:
    wait_briefly()
