"""Stops the console command on Ctrl-C, ``kill`` or a closed terminal, without losing a picture."""

import contextlib
import enum
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# Closing a terminal sends SIGHUP, which Windows does not have.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_STOPPING = b"\nstopping after this step (Ctrl-C again: at once)\n"


class _When(enum.Enum):
    """What a signal does."""

    AT_ONCE = "it raises KeyboardInterrupt: there is nothing to save"
    AFTER_THE_STEP = "the first one is noted, the second one raises KeyboardInterrupt"
    LATER = "it is noted: finished pictures are being saved"


class StopRequest:
    """Whether the user has asked to stop, with Ctrl-C (SIGINT), SIGTERM or SIGHUP.

    Attributes
    ----------
    number
        The first signal that arrived, or None.
    cut
        Whether a signal has raised `KeyboardInterrupt`. Callers may see another exception: a module
        whose import is interrupted raises ImportError.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.cut = False
        self._when = _When.AT_ONCE
        self._process = os.getpid()

    def __bool__(self) -> bool:
        return self.number is not None

    @property
    def status(self) -> int:
        """Exit status of a stopped command, by the convention of shells: 128 + the signal."""
        return 128 + (self.number or signal.SIGINT)

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Only note signals within this context, so that its work is completed."""
        before = self._when
        self._when = _When.LATER
        try:
            yield
        finally:
            self._when = before

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Note the first signal within this context; let the second one raise, once."""
        before = self._when
        self._when = _When.AFTER_THE_STEP
        try:
            yield
        finally:
            self._when = before

    def finish(self) -> None:
        """Only note signals until `after_the_step` ends: the last step has been taken."""
        if self._when is _When.AFTER_THE_STEP:
            self._when = _When.LATER

    def interrupt(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle Ctrl-C."""
        if self._is_elsewhere(number):
            return
        first = self._note(number)
        if self._when is _When.AT_ONCE or (self._when is _When.AFTER_THE_STEP and not first):
            self._cut()

    def end(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal that would end the process."""
        if self._is_elsewhere(number):
            return
        first = self._note(number)
        if self._when is _When.AT_ONCE:
            self._cut()
        elif not first:
            # Treat it like Ctrl-C, which the engine delays while it must not be interrupted.
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                handler(signal.SIGINT, frame)

    def _note(self, number: int) -> bool:
        """Note a signal; return whether it is the first one."""
        if self.number is not None:
            return False
        self.number = number
        if self._when is not _When.AT_ONCE:
            # Not through a stream: the interrupted code may hold its lock.
            with contextlib.suppress(OSError):
                os.write(2, _STOPPING)
        return True

    def _cut(self) -> None:
        self.cut = True
        self.finish()
        raise KeyboardInterrupt

    def _is_elsewhere(self, number: int) -> bool:
        """Whether this is a forked process; if so, let the signal end it as usual."""
        if os.getpid() == self._process:
            return False
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return True


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn signals that end a process into requests to stop, during a ``with`` block.

    Ignored signals stay ignored: SIGINT in the background of a script, SIGHUP with ``nohup``.
    """
    request = StopRequest()
    # Python allows signal handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {}
    try:
        for number in (signal.SIGINT, *_ENDING):
            usual = signal.getsignal(number)
            if usual in (signal.SIG_IGN, None):  # None: the handler was not set by Python
                continue
            before[number] = usual
            handler = request.interrupt if number == signal.SIGINT else request.end
            signal.signal(number, handler)
        yield request
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
