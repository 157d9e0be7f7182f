"""Ctrl-C at any moment leaves the network and torch as they were, and takes no picture away.

A timer sends real signals at random moments of runs. FVFAST_TEST_SIGNALS says how many, of each
kind of run together.
"""

import itertools
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from misbehaving import Network, Spikes, everything, global_state
from test_forced_interrupts import INPUT, draw

import fvfast
from fvfast import maco, maco_batch, optimize
from fvfast.engine.borrowing.interrupts import forget_interrupts

SIGNALS = int(os.environ.get("FVFAST_TEST_SIGNALS", "60"))
PACKAGE = str(Path(fvfast.__file__).parent)
KINDS = [(call, make) for call in (maco, maco_batch, optimize) for make in (Network, Spikes)]


class Interrupter:
    """Sends SIGINT after some time, and once more after some more; counts what came through."""

    def __init__(self):
        self.delays = []
        self.sent = 0
        self.is_armed = False

    def __enter__(self):
        # By a signal of their own, since the timer's is not SIGINT.
        self.before = signal.signal(signal.SIGALRM, self.send), signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before[0])
        signal.signal(signal.SIGINT, self.before[1])

    def arm(self, *delays):
        self.delays = list(delays)
        self.is_armed = True
        signal.setitimer(signal.ITIMER_REAL, self.delays.pop(0))

    def disarm(self):
        self.is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def send(self, *_):
        if not self.is_armed:
            return
        if self.delays:
            signal.setitimer(signal.ITIMER_REAL, self.delays.pop(0))
        self.sent += 1
        signal.raise_signal(signal.SIGINT)

    def interrupt(self, *_):
        if self.is_armed:
            raise KeyboardInterrupt


def lost_pictures(error, steps):
    """Whether an interrupt has come out of fvfast when there were pictures."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    # One that comes when the function has returned is the caller's.
    return bool(steps) and any(name.startswith(PACKAGE) for name in frames)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer")
@pytest.mark.parametrize("in_a_row", [1, 2])
@pytest.mark.parametrize(("call", "make"), KINDS)
def test_a_signal_at_any_moment(call, make, in_a_row, monkeypatch):
    assert threading.current_thread() is threading.main_thread()
    model = make()
    draw(model, call)
    before, around = everything(model), global_state()
    # What is raised where an object goes (in the callback of a weak reference), Python drops.
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: dropped.append(it.exc_type))
    moments = random.Random(f"{call.__name__} {make.__name__} {in_a_row}")
    least = SIGNALS // (2 * len(KINDS))
    with Interrupter() as interrupter, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        handler = signal.getsignal(signal.SIGINT)
        for count in itertools.count():
            if interrupter.sent >= least:
                break
            if count % 16 == 0:
                # How long a run takes changes with what else is busy.
                start = time.perf_counter()
                draw(model, call)
                seconds = time.perf_counter() - start
            delays = [1e-6 + moments.uniform(0, 1.1 * seconds)]
            delays += [1e-6 + moments.expovariate(1 / (0.1 * seconds)) for _ in range(in_a_row - 1)]
            steps, came = [], []
            forget_interrupts()
            try:
                try:
                    interrupter.arm(*delays)
                    draw(model, call, steps.append)
                    interrupter.disarm()
                except KeyboardInterrupt as error:
                    came.append(error)
                    interrupter.disarm()
            except KeyboardInterrupt:  # the second one
                interrupter.disarm()
            assert in_a_row > 1 or not any(lost_pictures(error, steps) for error in came), delays
            assert everything(model) == before, delays
            assert global_state() == around, delays
            assert signal.getsignal(signal.SIGINT) == handler, delays
    assert set(dropped) <= {KeyboardInterrupt}
    with torch.no_grad():
        model(torch.zeros(1, *INPUT))
