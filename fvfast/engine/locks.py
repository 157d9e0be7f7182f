"""Keeps threads from using the same network, or the global state of torch, at the same time.

A thread takes everything that it needs at once, and holds nothing while it waits: threads that take
one thing after another can deadlock. A thread may still take more on top of what it holds (in a
callback); a deadlock that would come of it is detected and refused.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from fvfast.engine.borrowing.interrupts import let_interrupts_through

Parts = Mapping[Hashable, object]
"""What a thread takes: keys, equal if two parts are the same, and the objects they stand for."""

TORCH_STATE: Parts = {"state of torch that all threads share": None}
"""The global generators (of torch, numpy and Python) and the float32 settings."""

_PATIENCE = 0.1  # seconds after which a thread that waits looks for an interrupt


class Use:
    """What one thread uses.

    Attributes
    ----------
    undo
        Restores what the thread has changed, in a process that is forked meanwhile and does not
        have the thread. It must not compute with several threads: a forked process cannot.
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
        """Use parts during a ``with`` statement; within it the same thread may use them again.

        Parameters
        ----------
        find_parts
            Returns what is needed. Called again after each wait, because the thread that used the
            parts may have changed what there is.
        interruptible
            Whether Ctrl-C ends the wait.

        Raises
        ------
        RuntimeError
            The wait would be a deadlock: another thread waits for what this one uses.
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
        """Find what is needed; None if another thread uses some of it."""
        try:
            parts = find_parts()
        except RuntimeError as error:
            if "during iteration" not in str(error) or self._are_all_of(me):
                raise
            return None  # another thread's run changed the network while this one looked at it
        if not self._users_of(parts, me):
            return parts
        self._wanted[me] = parts
        self._refuse_to_wait_in_a_circle(me)
        return None

    def _are_all_of(self, thread: int) -> bool:
        return all(use.thread == thread for use in self._uses)

    def _users_of(self, parts: Parts, me: int) -> set[int]:
        """Return the threads other than this one that use any of the parts."""
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
            # What it waits for may be free by now, before it has woken up: then it has no users.
            users = self._users_of(self._wanted[thread], thread)
            if me in users:
                raise RuntimeError(
                    "two threads wait for each other: each is in a run, and begins another one, in "
                    "a callback or a function of its objective, on a network that the other uses. "
                    "Begin runs within runs in one thread only, or on networks that share nothing."
                )
            ahead.extend(users)

    def after_fork(self) -> None:
        """Forget the threads that a forked process does not have, and undo what they changed."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        gone = [use for use in self._uses if use.thread != me]
        self._uses = [use for use in self._uses if use.thread == me]
        self._wanted.clear()
        for use in reversed(gone):
            use.undo()


USES = Uses()
"""The uses of this process."""


def torch_state_used() -> contextlib.AbstractContextManager[Use]:
    """Use `TORCH_STATE`. The wait lasts a pass or a step at most, and Ctrl-C does not end it."""
    return USES.of(lambda: TORCH_STATE, interruptible=False)


_with_a_lock: "weakref.WeakSet[Any]" = weakref.WeakSet()


def free_after_fork(owner: Any) -> None:
    """Make ``owner._lock`` free in a forked process, even if a thread held it at the fork."""
    _with_a_lock.add(owner)


# By the types of the locks that threading.Lock and RLock, which are functions, return.
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
