"""Which networks are compiled for a run, when, why not, and what the user is told of it."""

import functools
import logging
import re
import sys
import warnings

import numpy as np
import pytest
import torch
from engine.compiled_networks import INPUT, LOGGED, SHORT, Swish, close, drawn, neuron, notes, plain
from engine.compiler_stand_in import StandIn
from injected_runs import maco_with
from misbehaving import everything

import fvfast.engine
from fvfast import Objective, accentuate, maco, maco_batch, optimize
from fvfast.cli.network import describe_engine
from fvfast.engine.compiled.choice import check_compile
from fvfast.engine.compiled.trial import why_not_compiled
from fvfast.models import LoadedModel
from fvfast.run.batches import draw_batches
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


@pytest.fixture(autouse=True)
def nothing_kept():
    fvfast.engine.clear()
    yield
    fvfast.engine.clear()


class Reads(Swish):
    """Goes on in another way if a number is large."""

    def forward(self, x):
        return super().forward(x) * (2 if x.mean() > 100 else 1)


class Draws(Swish):
    def forward(self, x):
        return super().forward(x + 0.01 * torch.rand_like(x))


class Counts(Swish):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + 1e-6 * self.calls)


class CountsInPython(Swish):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + 1e-6 * self.calls)


class FromNumpy(torch.autograd.Function):
    """Hides from the recording what it does with the gradient."""

    @staticmethod
    def forward(_context, x):
        return x.clone()

    @staticmethod
    def backward(_context, gradient):
        return torch.from_numpy(np.sign(gradient.numpy()))


class HidesItsGradient(Swish):
    def forward(self, x):
        return FromNumpy.apply(super().forward(x))


class Decides(Swish):
    """Goes on in another way if a number is large, which it does not ask torch for.

    Parameters
    ----------
    read
        Returns the number.
    """

    def __init__(self, read):
        super().__init__()
        self.read = read

    def forward(self, x):
        return super().forward(x) * (2 if self.read(x) > 100 else 1)


def caught(x):
    """Go on without what torch refuses to record."""
    try:
        return float(x.detach().mean())
    except RuntimeError:
        return 0.0


DECISIONS = {
    "Tensor.numpy": lambda x: x.detach().numpy().mean(),
    "Tensor.tolist": lambda x: max(x.mean((1, 2, 3)).tolist()),
    "aten.nonzero.default": lambda x: len(x.detach().nonzero()) - x.numel(),
    "aten.index.Tensor": lambda x: x[x > 100].numel(),
    "aten._unique2.default": lambda x: x.unique().numel() - x.numel(),
    "aten._local_scalar_dense.default": caught,
}


class Generates(Swish):
    """Has random numbers from a generator of its own, which begins anew in each pass."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(3)
        return super().forward(x) + torch.rand(5, generator=generator)


def hooked(_store):
    model = Swish()
    model.stem.register_forward_hook(lambda *_: None)
    return model


NUMBERS = "the network reads numbers from tensors"
LEFT_OUT = {
    "reads": (Reads, StandIn, f"{NUMBERS} (aten._local_scalar_dense.default)"),
    **{
        read: (functools.partial(Decides, decide), StandIn, f"{NUMBERS} ({read})")
        for read, decide in DECISIONS.items()
    },
    "numpy in the gradient": (HidesItsGradient, StandIn, "likeness of the gradients "),
    "own generator": (Generates, StandIn, "ValueError: the network uses a Generator of its own"),
    "draws": (Draws, StandIn, "the network draws random numbers"),
    "counts": (Counts, StandIn, "the network changes itself in each pass"),
    "counts in Python": (CountsInPython, StandIn, "the network changes itself in each pass"),
    "hooks": (lambda: hooked(None), StandIn, "hooks on its modules want Python in every pass"),
    "slower": (Swish, lambda: StandIn(1.2), "20% slower, compiling took 5 s"),
    "hardly faster": (Swish, lambda: StandIn(0.97), "1.03 times as fast, compiling took 5 s"),
    "no compiler": (
        Swish,
        lambda: StandIn(error=RuntimeError("No working C++ compiler found\nin the path")),
        "RuntimeError: No working C++ compiler found",
    ),
    "compiler's output": (
        Swish,
        lambda: StandIn(error=RuntimeError("C++ compile error\n\nCommand:\ng++ x.cpp\n"
                                           "x.cpp:1:1: fatal error: Python.h: No such file")),
        "RuntimeError: x.cpp:1:1: fatal error: Python.h: No such file",
    ),
    "full disk": (
        Swish,
        lambda: StandIn(error=RuntimeError("C++ compile error\n\nCommand:\ng++ x.cpp\n\nOutput:\n"
                                           "ld: final link failed: No space left on device\n"
                                           "collect2: error: ld returned 1 exit status")),
        "RuntimeError: ld: final link failed: No space left on device",
    ),
    "memory": (
        Swish,
        lambda: StandIn(error=torch.OutOfMemoryError("not enough")),
        "out of memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT_OUT)
def test_why_it_is_left_out(case, caplog):
    caplog.set_level(logging.INFO, LOGGED)
    make, compiler, reason = LEFT_OUT[case]
    model = make()
    before = everything(model)
    with pytest.warns(UserWarning, match=re.escape(
        f"compile=True: the network runs without being compiled: {reason}"
    )) as warned:  # fmt: skip
        image = drawn(model, compiler().store())
    assert sum("compile=True" in str(one.message) for one in warned) == 1
    assert notes(caplog)[-1].startswith(f"compiled form: left out: {reason}")
    assert everything(model) == before
    assert torch.equal(image, plain(model))


def test_numbers_of_the_network_may_be_read():
    """They are the same in each pass; and what `Tensor.data` returns is recorded."""

    class Reading(Swish):
        sizes = torch.tensor([2, 3])

        def forward(self, x):
            height, width = self.sizes.tolist()
            weight = float(self.head.bias.detach().numpy().max())
            x = x + 0.01 * x.data[..., :1, :1].clamp(0, 1)
            x = x * weight + self.sizes[self.sizes > 2].numel()
            return super().forward(x + (height - width))

    model, compiler = Reading(), StandIn()
    image = drawn(model, compiler.store())
    assert compiler.calls
    assert close(image, plain(model))


def test_functions_of_the_user_are_left_out():
    model, compiler = Swish(), StandIn()
    objective = Objective.from_callable(model, lambda x: model(x)[:, 1], input_shape=INPUT)
    with pytest.warns(UserWarning, match="calls a function of the user"):
        maco_with(compiler.store(), objective, **SHORT, compile=True)
    assert compiler.graphs == 0


def test_other_devices_are_left_out():
    model = Swish()
    of_mps = why_not_compiled(model, torch.device("mps"), runs_user_code=False)
    assert of_mps == "it has not been tried on mps"
    elsewhere = why_not_compiled(model, torch.device("cuda", 0), runs_user_code=False)
    assert elsewhere == "the network's tensors are not all on cuda:0"
    assert not why_not_compiled(model, torch.device("cpu"), runs_user_code=False)


def test_windows_is_left_out(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    reason = why_not_compiled(Swish(), torch.device("cpu"), runs_user_code=False)
    assert reason == "it has not been tried on Windows"


def test_auto_says_what_is_left_out_only_to_the_log(caplog):
    caplog.set_level(logging.INFO, LOGGED)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "compile=True")
        drawn(Swish(), StandIn(1.2).store(expected_seconds=0.01), compile="auto")
    assert "20% slower" in notes(caplog)[-1]


def test_auto_compiles_for_long_runs(caplog):
    """By the clock a pass takes a second, and three of four steps are left."""
    caplog.set_level(logging.INFO, LOGGED)
    compiler = StandIn()
    drawn(Swish(), compiler.store(expected_seconds=0.31), compile="auto")
    assert compiler.graphs == 0
    assert notes(caplog)[-1].endswith(
        "left out: the rest of the run takes about 3 s, and compiling pays from 3 s on"
    )
    drawn(Swish(), compiler.store(expected_seconds=0.29), compile="auto")
    assert compiler.graphs == 2


def test_auto_counts_the_batches_to_come():
    compiler = StandIn()
    objective = Objective.neuron(Swish(), "", [0, 1, 2, 3], input_shape=INPUT)
    settings = MacoSettings(**SHORT, compile="auto")
    for expected, graphs in ((1.6, 0), (1.4, 2)):  # 4 + 3 * 4 steps, of which one is over
        store = compiler.store(expected_seconds=expected)
        draw_batches(Run(objective, settings, progress=False, forms=store), 1)
        assert compiler.graphs == graphs


def test_what_was_measured_is_expected_the_next_time():
    compiler = StandIn()
    store = compiler.store(expected_seconds=0.1)
    drawn(Swish(), store, compile="auto")
    assert store.compiler.expected_seconds == 4.75


@pytest.mark.parametrize("call", [maco, maco_batch, optimize, accentuate])
@pytest.mark.parametrize("choice", ["yes", 1, None])
def test_other_choices_are_refused(call, choice):
    photograph = (torch.zeros(3, 8, 8),) if call is accentuate else ()
    with pytest.raises(ValueError, match='compile must be True, False or "auto"') as error:
        call(neuron(Swish()), *photograph, compile=choice)
    assert repr(choice) in str(error.value)


def test_choices_that_are_taken():
    assert [check_compile(choice) for choice in (True, False, "auto")] == [True, False, "auto"]


def test_pictures_of_before_count_as_made_with_the_same_settings():
    assert "compile" not in MacoSettings().described()
    assert MacoSettings(compile="auto").described()["compile"] == "auto"


@pytest.mark.parametrize(
    ("share", "row"),
    [
        (0.5, ("compiled, with 4 views", "2.00 times as fast, compiling took 5 s")),
        (1.2, ("left out", "compiled: 20% slower, compiling took 5 s")),
    ],
)
def test_what_info_says(share, row, capsys):
    loaded = LoadedModel(Swish(), "swish", INPUT)
    device = torch.device("cpu")
    rows = describe_engine(loaded, device, None, StandIn(share).compiler())
    assert row in rows
    assert "this may take minutes" in capsys.readouterr().err
    assert not any("compil" in "".join(one) for one in describe_engine(loaded, device, None))


def test_the_user_is_told_before_it_takes_long(capsys):
    store = StandIn().store()
    settings = MacoSettings(**SHORT, compile=True)
    Run(neuron(Swish()), settings, progress=True, forms=store).draw([0])
    shown = capsys.readouterr().err
    assert "compiling the network for 3 views at once: this may take minutes." in shown
    assert "compiled network: 2.00 times as fast, compiling took 5 s." in shown
