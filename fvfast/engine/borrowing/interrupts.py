"""Delays Ctrl-C while something is set up or restored.

Python raises `KeyboardInterrupt` between any two instructions, also in code that restores things.
So during a run the signal is only noted. It comes through in the parts that take long and leave
nothing half done when they end early: the network's passes, and the user's functions.
"""

import contextlib
import functools
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

import torch
from torch.overrides import _get_current_function_mode_stack

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.modes import restore_modes

P = ParamSpec("P")
R = TypeVar("R")


PATIENCE = 3.0
"""Seconds within which a second interrupt means that the program is to stop, not only the run."""


class _Shield:
    """The state of the signal in the main thread, the only one that receives it."""

    def __init__(self) -> None:
        self.blocks = False
        self.pending = 0
        self.depth = 0
        self.insists = False
        self.last_raised = -math.inf
        self.original: Callable[[int, FrameType | None], Any] | None = None
        self.original_hook: Callable[[sys.UnraisableHookArgs], Any] = sys.unraisablehook

    def begin(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        """Take the place of the handler that the signal has."""
        self.original = handler
        self.pending = 0
        self.insists = False
        self.blocks = True
        signal.signal(signal.SIGINT, self.handle)
        self.depth = 1
        self.original_hook = sys.unraisablehook
        sys.unraisablehook = self.note_ignored

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note an interrupt, or let it through; while it unwinds the stack, others are noted."""
        if self.blocks:
            self.pending += 1
            return
        self.blocks = True
        self.pending = 0  # this interrupt replaces those that were noted
        self._raise(number, frame)
        self.blocks = False  # it did not raise

    def end(self) -> None:
        """Restore the handler that the signal had before."""
        self.depth = 0
        if sys.unraisablehook == self.note_ignored:
            sys.unraisablehook = self.original_hook
        signal.signal(signal.SIGINT, self.original)
        self.blocks = False

    def note_ignored(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Note an interrupt again that Python has ignored.

        No exception leaves a destructor or the callback of a weak reference. Python reports one
        that is raised there to `sys.unraisablehook`, and continues.
        """
        if self.depth and _is_main() and issubclass(ignored.exc_type, KeyboardInterrupt):
            self.pending += 1
            self.last_raised = -math.inf  # when it is raised again, it is not a second one
            self.blocks = False
        else:
            self.original_hook(ignored)

    def deliver(self) -> None:
        """Let a noted interrupt through."""
        if self.pending and self.original is not None:
            self.insists |= self.pending > 1
            self.pending = 0
            self._raise(signal.SIGINT, None)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        assert self.original is not None
        try:
            self.original(number, frame)
        except KeyboardInterrupt:
            now = time.monotonic()
            self.insists |= now - self.last_raised < PATIENCE
            self.last_raised = now
            raise


_SHIELD = _Shield()


_main = threading.main_thread()


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _after_fork() -> None:
    """End the shield of a main thread that a forked process does not have."""
    global _main
    if threading.main_thread() is not _main and _SHIELD.depth > 0:
        _SHIELD.end()
    _main = threading.main_thread()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class shielded:  # noqa: N801 (a context manager)
    """Within this context Ctrl-C waits, except in `opened`.

    It comes through at the end of the outermost such context. Threads other than the main one are
    never interrupted.
    """

    def __enter__(self) -> None:
        if not _is_main():
            return
        self._before = _SHIELD.blocks
        if _SHIELD.depth == 0:
            handler = signal.getsignal(signal.SIGINT)
            if not callable(handler):
                return  # the signal is ignored, or not handled by Python: nothing would be raised
            _SHIELD.begin(handler)
            return
        _SHIELD.blocks = True
        _SHIELD.depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not _is_main() or _SHIELD.depth == 0:
            return
        if _SHIELD.depth > 1:
            _SHIELD.depth -= 1
            _SHIELD.blocks = self._before
            return
        _SHIELD.end()
        _SHIELD.deliver()


def opened(function: Callable[P, R], *args: P.args, **settings: P.kwargs) -> R:
    """Call a function that may be interrupted; a noted interrupt comes through before it."""
    let_interrupts_through()
    return opened_at_once(function, *args, **settings)


def opened_at_once(function: Callable[P, R], *args: P.args, **settings: P.kwargs) -> R:
    """Call a function that may be interrupted; an interrupt that was noted before still waits."""
    if not _is_main() or _SHIELD.depth == 0:
        return function(*args, **settings)
    before = _SHIELD.blocks
    try:
        _SHIELD.blocks = False
        return function(*args, **settings)
    finally:
        _SHIELD.blocks = before


def let_interrupts_through() -> None:
    """Raise `KeyboardInterrupt` if an interrupt was noted."""
    if _is_main() and _SHIELD.depth > 0:
        _SHIELD.deliver()


def user_insists() -> bool:
    """Whether the user has interrupted twice within `PATIENCE` seconds, in this run or before it.

    Then `KeyboardInterrupt` leaves the run, so that a loop over runs ends, too.
    """
    return _is_main() and _SHIELD.insists


def forget_interrupts() -> None:
    """Take the next interrupt for the first one."""
    _SHIELD.insists, _SHIELD.last_raised = False, -math.inf


def result_kept(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function `shielded`, and return its result even if an interrupt follows.

    Two interrupts within `PATIENCE` seconds come through nevertheless.

    Warns
    -----
    RuntimeWarning
        An interrupt came when the result was complete. It has no other effect.
    """

    @functools.wraps(function)
    def call(*args: P.args, **settings: P.kwargs) -> R:
        results: list[R] = []
        late = False
        while True:
            try:
                if not results:
                    with shielded():
                        results.append(function(*args, **settings))
                if late:
                    late = False
                    warn_user(
                        "interrupted after the last step: nothing is missing.", RuntimeWarning
                    )
                return results[0]
            except KeyboardInterrupt:
                if not results or _SHIELD.insists:
                    raise
                late = True

    return call


@contextlib.contextmanager
def torch_state_kept() -> Iterator[None]:
    """Restore this thread's torch modes, which an interrupt may leave set by torch's contexts."""
    gradients = torch.is_grad_enabled()
    modes = _get_current_function_mode_stack()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        restore_modes(modes)
