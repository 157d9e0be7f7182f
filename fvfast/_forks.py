"""Locks that a forked process does not inherit as taken.

A process that is forked (``os.fork``, multiprocessing, workers of a `torch.utils.data.DataLoader`)
has the thread that forked it, and no other. A lock that another thread held at that moment would
never be released there, and the first to want it would wait for ever.
"""

import os
import weakref
from typing import Any, TypeVar

# Locks of the standard library, whose types have no public names.
_locks: "weakref.WeakSet[Any]" = weakref.WeakSet()

Lock = TypeVar("Lock")


def free_after_fork(lock: Lock) -> Lock:
    """Return a lock that is free in forked processes, unless the thread that forks holds it."""
    _locks.add(lock)
    return lock


def _free_the_locks_of_other_threads() -> None:
    for lock in list(_locks):
        # What this thread holds it will release, as in the process that it comes from. (A lock that
        # is not reentrant does not know its owner; those are never held while others' code runs.)
        if not (hasattr(lock, "_is_owned") and lock._is_owned()):
            # What the standard library does with its own locks after a fork.
            lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_free_the_locks_of_other_threads)
