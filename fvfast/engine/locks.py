"""Who uses what threads cannot use at the same time: networks, and what all threads share of torch.

All that one use needs is taken in one go, or waited for with nothing taken: threads that take one
thing after another can wait for each other for ever. What a thread takes on top of what it has (in
a callback) may still be such a wait; it is found, and refused.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from fvfast.engine.borrowing.interrupts import let_interrupts_through

Parts = Mapping[Hashable, object]
"""What a use needs: by a key that says whether two are the same, what keeps the key alive."""

TORCH_STATE: Parts = {"state of torch that all threads share": None}
"""The global generators, of numpy and Python too, and the settings of float32."""

_PATIENCE = 0.1  # seconds after which a thread that waits looks for an interrupt


class Use:
    """What one thread uses.

    Attributes
    ----------
    undo
        Puts back what the thread does, in a process that is forked meanwhile and does not have the
        thread. It may not compute with several threads, which a forked process cannot.
    """

    def __init__(self, thread: int, parts: Parts) -> None:
        self.thread = thread
        self.parts = parts
        self.undo: Callable[[], None] = _nothing


def _nothing() -> None:
    pass


class Uses:
    """What each thread uses, and what it waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._uses: list[Use] = []
        self._wanted: dict[int, Parts] = {}

    @contextlib.contextmanager
    def of(self, find_parts: Callable[[], Parts], *, interruptible: bool = True) -> Iterator[Use]:
        """Use parts for the length of a ``with`` statement; a thread may do so again within it.

        Parameters
        ----------
        find_parts
            Says what is needed, anew after each wait: who used it may have changed what it is.
        interruptible
            Whether Ctrl-C ends the wait.

        Raises
        ------
        RuntimeError
            Another thread waits, in turn, for what this one uses.
        """
        use = self._begin(find_parts, interruptible)
        try:
            yield use
        finally:
            with self._changed:
                self._uses.remove(use)
                self._changed.notify_all()

    def _begin(self, find_parts: Callable[[], Parts], interruptible: bool) -> Use:
        me = threading.get_ident()
        with self._changed:
            try:
                while (parts := self._free_parts(find_parts, me)) is None:
                    self._changed.wait(_PATIENCE)
                    if interruptible:
                        let_interrupts_through()
            finally:
                self._wanted.pop(me, None)
            use = Use(me, parts)
            self._uses.append(use)
            return use

    def _free_parts(self, find_parts: Callable[[], Parts], me: int) -> Parts | None:
        """Find what is needed; None where another thread uses some of it."""
        try:
            parts = find_parts()
        except RuntimeError as error:
            if "during iteration" not in str(error) or self._are_all_of(me):
                raise
            return None  # a network that adds to itself as it runs, while it is looked at
        if not self._users_of(parts, me):
            return parts
        self._wanted[me] = parts
        self._refuse_to_wait_in_a_circle(me)
        return None

    def _are_all_of(self, thread: int) -> bool:
        return all(use.thread == thread for use in self._uses)

    def _users_of(self, parts: Parts, me: int) -> set[int]:
        """Threads other than this one that use any of these."""
        return {
            use.thread
            for use in self._uses
            if use.thread != me and not use.parts.keys().isdisjoint(parts)
        }

    def _refuse_to_wait_in_a_circle(self, me: int) -> None:
        reached, ahead = set[int](), [me]
        while ahead:
            thread = ahead.pop()
            if thread in reached or thread not in self._wanted:
                continue
            reached.add(thread)
            # What it waits for may be free by now: then it has only not woken up yet.
            users = self._users_of(self._wanted[thread], thread)
            if me in users:
                raise RuntimeError(
                    "two threads wait for each other: each is in a run, and begins another one, in "
                    "a callback or a function of its objective, on a network that the other uses. "
                    "Begin runs within runs in one thread only, or on networks that share nothing."
                )
            ahead.extend(users)

    def after_fork(self) -> None:
        """Forget the threads that a forked process does not have, and undo what they were at."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        gone = [use for use in self._uses if use.thread != me]
        self._uses = [use for use in self._uses if use.thread == me]
        self._wanted.clear()
        for use in reversed(gone):
            use.undo()


USES = Uses()
"""Those of this process."""


def torch_state_used() -> contextlib.AbstractContextManager[Use]:
    """Use `TORCH_STATE`; the wait is for a pass or a step at most, and Ctrl-C waits as long."""
    return USES.of(lambda: TORCH_STATE, interruptible=False)


_with_a_lock: "weakref.WeakSet[Any]" = weakref.WeakSet()


def free_after_fork(owner: Any) -> None:
    """Let a forked process have ``owner._lock`` free, whichever thread held it at the fork."""
    _with_a_lock.add(owner)


# threading.Lock and RLock are functions, whose types take no arguments or are hidden.
_LOCKS = {type(make()): make for make in (threading.Lock, threading.RLock)}


def _after_fork() -> None:
    for owner in list(_with_a_lock):
        if owner._lock.acquire(blocking=False):
            owner._lock.release()
        else:
            owner._lock = _LOCKS[type(owner._lock)]()
    USES.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which forks no processes
    os.register_at_fork(after_in_child=_after_fork)
