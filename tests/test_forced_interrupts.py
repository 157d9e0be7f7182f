"""Ctrl-C between any two instructions leaves the network, and torch, as they were.

Each run has one interrupt. A trace function sends it at a boundary between two bytecodes of fvfast,
or of code that fvfast calls to set things up and restore them. FVFAST_TEST_INTERRUPTS says how many
boundaries are tried, spread evenly.
"""

import opcode
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch
from misbehaving import Network, Spikes, everything, global_state
from selection import short_for, thorough
from torch import nn

import fvfast
import fvfast.engine
from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.borrowing.interrupts import forget_interrupts

INPUT = (3, 12, 12)
FOLDERS = (str(Path(fvfast.__file__).parent), str(Path(torch.overrides.__file__)), "contextlib.py")
SAMPLES = int(os.environ.get("FVFAST_TEST_INTERRUPTS", "10"))


@pytest.fixture(autouse=True)
def usual_handler():
    """Programs that a shell starts in the background inherit that the signal is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


RETURNS = {opcode.opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST") if name in opcode.opmap}


def is_last(frame):
    """Whether the next instruction hands the result over: an interrupt is then the caller's."""
    instruction = frame.f_code.co_code[frame.f_lasti]
    return instruction in RETURNS and frame.f_back.f_code.co_filename == __file__


class Boundaries:
    """Counts the boundaries between bytecodes, and sends SIGINT at one of them."""

    def __init__(self, at=None, again=None):
        self.count = 0
        self.at = at
        self.again = again

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _argument):
        name = frame.f_code.co_filename
        if not (name.startswith(FOLDERS[:2]) or name.endswith(FOLDERS[2])):
            return None
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode" and not is_last(frame):
            self.count += 1
            if self.count in (self.at, self.again):
                signal.raise_signal(signal.SIGINT)
        return self.trace


def draw(model, call, callback=None):
    objective = Objective.neuron(
        model, "fc", range(2 if call is maco_batch else 1), input_shape=INPUT
    )
    settings = {"nb_steps": 2, "custom_shape": (16, 16), "progress": False, "callback": callback}
    settings |= {"transformations": None} if call is optimize else {"nb_crops": 1}
    settings |= {"batch_size": 1} if call is maco_batch else {}
    fvfast.engine.clear()
    return call(objective, **settings)


def boundaries_of(call, make):
    model = make()
    draw(model, call)
    with Boundaries() as counted:
        draw(model, call, [].append)
    return counted.count


def run_interrupted(call, make, *at):
    """Run with interrupts; tells whether any came through."""
    forget_interrupts()
    model = make()
    draw(model, call)  # what is found out in a first run
    before, around, handler = everything(model), global_state(), signal.getsignal(signal.SIGINT)
    came, steps = False, []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with Boundaries(*at):
                draw(model, call, steps.append)
        except KeyboardInterrupt:
            came = True
            assert not steps or len(at) > 1, at  # what there is, is returned
    assert everything(model) == before, at
    assert global_state() == around, at
    assert signal.getsignal(signal.SIGINT) is handler, at
    # The network works, and others can borrow it.
    with torch.no_grad():
        model(torch.zeros(1, *INPUT))
    return came or any("interrupted" in str(one.message) for one in told)


def samples(count):
    return range(1, count + 1, max(1, count // SAMPLES))


CASES = [(call, make) for call in (maco, maco_batch, optimize) for make in (Network, Spikes)]


@pytest.mark.parametrize(("call", "make"), short_for([(maco, Network), (optimize, Spikes)], CASES))
def test_one_interrupt_anywhere(call, make):
    came = [run_interrupted(call, make, at) for at in samples(boundaries_of(call, make))]
    # It waits at most until the next pass of the network, or the end of a step.
    assert sum(came) > 0.9 * len(came)


@pytest.mark.parametrize("distance", [thorough(1), 7, thorough(300)])
def test_two_interrupts_in_a_row(distance):
    for at in samples(boundaries_of(maco, Network)):
        run_interrupted(maco, Network, at, at + distance)


def test_interrupts_in_the_networks_own_code():
    class Interrupted(Network):
        def around(self, x):
            signal.raise_signal(signal.SIGINT)
            return nn.functional.relu(x)

    model = Interrupted()
    handler = signal.getsignal(signal.SIGINT)
    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        draw(model, maco)
    assert everything(model) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_other_handlers_are_asked():
    """A program may have its own handler; one that raises nothing does not end the run."""
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    try:
        objective = Objective.neuron(Network(), "fc", 1, input_shape=INPUT)
        maco(
            objective, nb_steps=3, nb_crops=1, custom_shape=(16, 16), progress=False,
            callback=lambda _report: signal.raise_signal(signal.SIGINT),
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(asked) == 3


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        draw(Network(), maco)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
