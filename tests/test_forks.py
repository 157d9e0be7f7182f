"""A forked process can use the package, whatever other threads were doing at that moment."""

import contextlib
import os
import signal
import threading
import traceback

import pytest
import torch
from torch import nn

from fvfast import Objective, maco, optimize
from fvfast._forks import free_after_fork
from fvfast.engine import kept_forms, memory, state
from fvfast.engine.captures import CAPTURES
from fvfast.engine.exact_float32 import exact_float32
from fvfast.optim import _global_generator

INPUT = (3, 8, 8)


def in_a_fork(work):
    """Run a function in a forked process that may take a minute; whether it ended without error."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
        except BaseException:  # noqa: BLE001 (it is told, and the process ends)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def held_elsewhere(held):
    """Hold something in another thread."""
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with held:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    yield
    leave.set()
    thread.join()


MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
# What holds a lock, and what wants the same.
LOCKS = {
    "generator": (lambda: _global_generator(0), lambda: _global_generator(0).__enter__()),
    "TF32": (exact_float32, lambda: exact_float32().__enter__()),
    "model": (lambda: state._locked(MODEL), lambda: state._locked(MODEL).__enter__()),
    "models": (lambda: state._locks_guard, lambda: state._locks_guard.acquire()),
    "forms": (lambda: kept_forms.SHARED._lock, kept_forms.SHARED.clear),
    "memory": (lambda: memory._lock, lambda: memory.reused_memory().__enter__()),
    "captures": (lambda: CAPTURES._lock, CAPTURES.empty_cache),
}


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_of_another_thread_is_waited_for(name):
    hold, want = LOCKS[name]
    with held_elsewhere(hold()):
        assert in_a_fork(want)


def test_a_lock_of_the_forking_thread_stays_its_own():
    lock = free_after_fork(threading.RLock())

    def release():
        taken = []
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        assert taken == [False]
        lock.release()

    with lock:
        assert in_a_fork(release)


def test_every_lock_of_the_package_is_freed():
    """A new one has to be among those above."""
    from pathlib import Path

    import fvfast

    for path in Path(fvfast.__file__).parent.rglob("*.py"):
        for line in path.read_text().splitlines():
            if "Lock()" in line:
                assert "free_after_fork(threading." in line, path


@pytest.mark.parametrize("call", [maco, optimize])
def test_a_fork_in_the_middle_of_a_run_draws(call):
    """As a DataLoader does that is used in another thread than the one that draws."""
    settings = {"nb_steps": 2, "custom_shape": 12, "progress": False}
    settings |= {"nb_crops": 1} if call is maco else {"transformations": None}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the threads of OpenMP are not forked either
    running, leave = threading.Event(), threading.Event()

    def wait(_report):
        running.set()
        leave.wait()

    def draw(callback=None):
        call(Objective.channel(MODEL, "0", 1, input_shape=INPUT), callback=callback, **settings)

    thread = threading.Thread(target=draw, args=(wait,))
    thread.start()
    running.wait()
    try:
        assert in_a_fork(draw)
    finally:
        leave.set()
        thread.join()
        torch.set_num_threads(threads)
