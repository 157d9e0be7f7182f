"""Networks that are compiled for a run: the same results, or the reason why not; nothing is left.

Most tests have a stand-in for the compiler that runs the recorded graphs as they are.
"""

import contextlib
import functools
import gc
import logging
import re
import signal
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
from engine.compiler_stand_in import StandIn
from engine.recorded_steps import StepRecorder
from injected_runs import graphs_by, maco_with
from misbehaving import everything, global_state
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import fvfast.engine
from fvfast import Objective, accentuate, maco, maco_batch, optimize
from fvfast.cli.network import describe_engine
from fvfast.engine.compiled.choice import check_compile
from fvfast.engine.compiled.inductor import inductor
from fvfast.engine.compiled.kept import MOST_SHAPES, Compilation, CompiledForms, Wish
from fvfast.engine.compiled.trial import why_not_compiled
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.models import LoadedModel
from fvfast.run.batches import draw_batches
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 4, "nb_crops": 3, "custom_shape": (32, 32)}
LOGGED = "fvfast.engine.compiled.kept"


@pytest.fixture(autouse=True)
def nothing_kept():
    fvfast.engine.clear()
    yield
    fvfast.engine.clear()


class Swish(nn.Module):
    """Operations that no other form joins: SiLU, a sum, a product, layer normalization."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
        self.gate = nn.Conv2d(8, 8, 1)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)
        for norm in (self.stem[1], self.deep[1]):
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean)
        self.eval()

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.relu_(x + self.deep(x) * self.gate(x.mean((2, 3), True)).sigmoid())
        return self.head(self.norm(x.mean((2, 3))))


def neuron(model, unit=1, layer=""):
    return Objective.neuron(model, layer, unit, input_shape=INPUT)


def drawn(model, store, unit=1, layer="", **settings):
    settings = {**SHORT, "compile": True, **settings}
    return maco_with(store, neuron(model, unit, layer), **settings)


def plain(model, unit=1, layer="", **settings):
    return maco_with(FormStore(), neuron(model, unit, layer), **{**SHORT, **settings})


def close(mine, its, tolerance=1e-3):
    return float((mine - its).norm() / its.norm()) < tolerance


def notes(caplog):
    return [record.getMessage() for record in caplog.records if record.name == LOGGED]


@pytest.mark.parametrize("layer", ["", "stem", "norm"])
def test_the_recorded_network_draws_the_same(layer):
    model, compiler = Swish(), StandIn()
    objective = Objective.layer(model, layer, input_shape=INPUT)
    if layer == "norm":  # whose mean is zero
        objective = neuron(model, layer=layer)
    image = maco_with(compiler.store(), objective, **SHORT, compile=True)
    assert compiler.graphs == 2
    assert compiler.calls > 2 * 2  # of the last steps, forward and back
    assert close(image, maco_with(FormStore(), objective, **SHORT))


@pytest.mark.thorough
def test_several_layers_at_once():
    model, compiler = Swish(), StandIn()
    objective = neuron(model) + Objective.channel(model, "stem", 2, input_shape=INPUT)
    objective += Objective.channel(model, "stem.2", 3, input_shape=INPUT)  # the same tensor
    image = maco_with(compiler.store(), objective, **SHORT, compile=True)
    assert compiler.calls
    assert close(image, maco_with(FormStore(), objective, **SHORT))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_types(precision):
    model, compiler = Swish(), StandIn()
    image = drawn(model, compiler.store(), precision=precision)
    assert compiler.calls
    rounded, exact = plain(model, precision=precision), plain(model)
    # Rounded in other places, but not more often.
    assert (image - rounded).norm() < 2 * (rounded - exact).norm()


def test_a_network_of_joined_convolutions(network):
    """It is recorded as it is, not in the form that joins them, and compared with both."""
    compiler = StandIn()
    image = drawn(network, compiler.store(), layer="7")
    assert compiler.calls
    assert close(image, plain(network, layer="7"))


def test_constants_are_computed_once():
    """Of a batch normalization with constants alone, nothing but sums and products is left."""
    operations = []

    class Noting(StandIn):
        def __call__(self, graph, examples):
            operations.extend(str(node.target) for node in graph.graph.nodes)
            return super().__call__(graph, examples)

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    drawn(model, Noting().store(), layer="1")
    assert "aten.convolution.default" in operations
    assert not [name for name in operations if "sqrt" in name]


def test_the_network_and_torch_are_as_before():
    model, compiler = Swish(), StandIn()
    drawn(model, compiler.store())  # what is imported draws from generators
    before, state = everything(model), global_state()
    methods = nn.Module.__call__, nn.Module.__getattr__
    settings = torch._inductor.config.save_config_portable()
    drawn(model, compiler.store())
    assert compiler.graphs == 4
    assert everything(model) == before
    assert global_state() == state
    assert (nn.Module.__call__, nn.Module.__getattr__) == methods
    assert torch._inductor.config.save_config_portable() == settings
    assert not any("_orig_mod" in name for name, _ in model.named_modules())
    assert "forward" not in model.__dict__
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


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


def test_later_calls_compile_nothing():
    model, compiler = Swish(), StandIn()
    store = compiler.store()
    first = drawn(model, store)
    calls = compiler.calls
    assert torch.equal(drawn(model, store), first)
    assert compiler.graphs == 2
    assert compiler.calls > calls + 2 * 2
    assert close(drawn(model, store, unit=3), plain(model, unit=3))
    assert compiler.graphs == 2


def test_calls_that_do_not_ask_run_without():
    model, compiler = Swish(), StandIn()
    store = compiler.store()
    drawn(model, store)
    calls = compiler.calls
    assert torch.equal(drawn(model, store, compile=False), plain(model))
    assert compiler.calls == calls


def test_it_is_freed_with_its_network():
    model, compiler = Swish(), StandIn()
    store = compiler.store()
    drawn(model, store)
    weight = weakref.ref(model.gate.weight.untyped_storage())
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert weight() is None
    assert len(store) == 0


@pytest.mark.thorough
def test_clear_frees_it():
    model, compiler = Swish(), StandIn()
    store = compiler.store()
    drawn(model, store)
    store.clear()
    drawn(model, store)
    assert compiler.graphs == 4


@contextlib.contextmanager
def changed_weight(model):
    model.stem[1].running_var.data.mul_(4)
    yield


@contextlib.contextmanager
def changed_attribute(model):
    """Which no check of the network's tensors shows."""
    model.norm.eps = 10.0
    yield


@pytest.mark.parametrize("change", [changed_weight, changed_attribute])
def test_a_network_that_has_changed_is_compiled_again(change):
    model, compiler = Swish(), StandIn()
    store = compiler.store()
    first = drawn(model, store)
    with change(model):
        second = drawn(model, store)
        assert compiler.graphs == 4
        assert close(second, plain(model))
        assert not close(second, first)


def test_each_size_is_compiled_if_it_is_worth_it(caplog):
    """The last batch has another number of images; its few steps are not worth it."""
    caplog.set_level(logging.INFO, LOGGED)
    objective = Objective.neuron(Swish(), "", [0, 1, 2], input_shape=INPUT)
    settings = MacoSettings(**SHORT, compile=True)
    compiler = StandIn()
    run = Run(objective, settings, progress=False, forms=compiler.store())
    images = draw_batches(run, 2).images
    assert compiler.graphs == 2
    assert notes(caplog)[-1].endswith("the rest of the run takes about 3 s, and compiling pays "
                                      "from 48 s on")  # fmt: skip
    assert close(images, maco_batch(objective, **SHORT, progress=False, batch_size=2).images)


def test_a_call_with_another_number_of_crops_compiles_at_once():
    model, compiler = Swish(), StandIn()
    store = compiler.store()
    drawn(model, store)
    assert close(drawn(model, store, nb_crops=2), plain(model, nb_crops=2))
    assert compiler.graphs == 4


@pytest.mark.thorough
def test_few_sizes_are_compiled():
    model, compiler = Swish(), StandIn()
    store = compiler.store(expected_seconds=1e-6)
    for crops in range(1, MOST_SHAPES + 3):
        drawn(model, store, nb_crops=crops, nb_steps=3, compile="auto")
        store.compiler.expected_seconds = 1e-6
    assert compiler.graphs == 2 * MOST_SHAPES


class NeedsMemory(Swish):
    most = 4

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError(f"{len(x)} views")
        return super().forward(x)


def test_passes_that_are_halved_are_compiled_as_they_run():
    model, compiler = NeedsMemory(), StandIn()
    with pytest.warns(RuntimeWarning, match="going on with 4"):
        image = drawn(model, compiler.store(), nb_crops=8)
    assert compiler.graphs == 2
    assert compiler.calls > 2 * 2
    with pytest.warns(RuntimeWarning, match="going on with 4"):
        assert close(image, plain(model, nb_crops=8))


class FailsLater(Swish):
    """Once it is told to, more than two views are too many."""

    is_full = False

    def forward(self, x):
        if self.is_full and len(x) > 2:
            raise torch.OutOfMemoryError("full")
        return super().forward(x)


def test_memory_that_runs_out_in_the_check_of_what_is_kept():
    model, compiler = FailsLater(), StandIn()
    store = compiler.store()
    drawn(model, store)
    model.is_full = True
    with pytest.warns(RuntimeWarning, match="going on with 1"):
        drawn(model, store)
    assert compiler.graphs == 4  # for passes of one view


def test_no_pass_that_the_memory_may_not_hold():
    model, compiler = Swish(), StandIn()
    forms = CompiledForms()
    compilation = Compilation(
        forms, compiler.compiler(), Wish("auto", 10**6), model, model, model, ""
    )
    views = torch.zeros(2, *INPUT)
    compilation.prepare(views, 1.0, draws=False, fits=False)
    assert compilation.note == (
        "left out: the memory may not hold a pass through the network as it is"
    )
    compilation.prepare(views, 1.0, draws=False)  # measured once
    assert not forms.outcomes


class Interrupts(StandIn):
    def __call__(self, graph, examples):
        if self.graphs == 0:
            self.graphs += 1
            raise KeyboardInterrupt
        return super().__call__(graph, examples)


def test_an_interrupt_while_it_compiles_keeps_the_picture():
    model, compiler = Swish(), Interrupts()
    before, state = everything(model), global_state()
    store = compiler.store()
    run = Run(neuron(model), MacoSettings(**SHORT, compile=True), progress=False, forms=store)
    with pytest.warns(RuntimeWarning, match="interrupted after 1 of 4 steps"):
        ascent = run.draw([0])
    assert ascent.interrupted
    assert torch.equal(ascent.images[-1][0], plain(model, nb_steps=1))
    assert everything(model) == before
    assert global_state() == state
    assert close(drawn(model, store), plain(model))


@pytest.mark.thorough
def test_two_threads_at_once():
    models, compiler = [Swish(), Swish()], StandIn()
    results = {}

    def draw(index):
        results[index] = drawn(models[index], compiler.store(), unit=index)

    threads = [threading.Thread(target=draw, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(results[index], plain(models[index], index)) for index in (0, 1))


def test_other_threads_may_call_the_network_meanwhile():
    model = Swish()
    views = torch.randn(2, *INPUT)
    expected, seen = model(views), []

    class Beside(StandIn):
        def __call__(self, graph, examples):
            thread = threading.Thread(target=lambda: seen.append(model(views)))
            thread.start()
            thread.join()
            return super().__call__(graph, examples)

    drawn(model, Beside().store())
    assert len(seen) == 2
    assert all(torch.equal(one, expected) for one in seen)


class FrozenReplay:
    """A stand-in for a CUDA graph: repeats the operations of a pass."""

    def __init__(self):
        self.replays = 0

    def __call__(self, run, views):
        operations = make_fx(run)(views.detach().clone())

        def replay(views):
            self.replays += 1
            scores, gradient = operations(views.detach().clone())
            return scores.clone(), gradient

        return replay


def test_compiled_passes_are_captured():
    model, compiler, capture = Swish(), StandIn(), FrozenReplay()
    store = graphs_by(capture)
    store.compiler = compiler.compiler()
    longer = {"nb_steps": 8, "color_shift": 0.1}  # whole steps are not captured with it
    image = drawn(model, store, **longer)
    assert compiler.graphs == 2
    assert capture.replays > 3
    assert close(image, plain(model, **longer))
    again = drawn(model, store, **longer)
    assert close(again, image)
    assert close(drawn(model, store, compile=False, **longer), image)
    assert compiler.graphs == 2


def test_whole_steps_are_captured():
    model, compiler, capture = Swish(), StandIn(), StepRecorder()
    store = graphs_by(None, capture)
    store.compiler = compiler.compiler()
    image = drawn(model, store, nb_steps=12)
    assert compiler.graphs == 2
    assert capture.recordings
    assert close(image, plain(model, nb_steps=12))


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


# With the compiler itself.


class Timed(StandIn):
    """Compiles with TorchInductor; by its clock, too, what is compiled is faster."""

    def __call__(self, graph, examples):
        return super().__call__(inductor(graph, examples), examples)


@pytest.mark.thorough
@pytest.mark.parametrize("settings", [{}, {"precision": "bfloat16"}, {"nb_crops": 1}])
def test_the_compiler_itself(settings):
    model, compiler = Swish(), Timed()
    drawn(model, StandIn().store())  # what is imported may draw
    before, state = everything(model), global_state()
    image = drawn(model, compiler.store(), **settings)
    assert compiler.calls > 2 * 2
    assert everything(model) == before
    assert global_state() == state
    rounded, exact = plain(model, **settings), plain(model, **{**settings, "precision": None})
    most = max(1e-3 * exact.norm(), 2 * (rounded - exact).norm())
    assert (image - rounded).norm() < most


@pytest.mark.thorough
def test_the_compiler_itself_keeps_nothing_of_a_network():
    model = Swish()
    store = Timed().store()
    drawn(model, store)
    assert len(store) == 1
    kept = [weakref.ref(model), weakref.ref(model.gate.weight.untyped_storage())]
    del model
    gc.collect()
    assert [one() for one in kept] == [None, None]
    assert len(store) == 0


@pytest.mark.thorough
def test_the_compiler_itself_in_two_threads():
    models, results = [Swish(), Swish()], {}

    def draw(index):
        results[index] = drawn(models[index], Timed().store(), unit=index)

    threads = [threading.Thread(target=draw, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(results[index], plain(models[index], index)) for index in (0, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("delay", [0.05, 0.4, 1, 2.5])
def test_the_compiler_itself_interrupted(delay):
    """By a timer while it works; the next call compiles as if nothing had been."""
    model, store = Swish(), Timed().store()
    before, state = everything(model), global_state()
    settings = torch._inductor.config.save_config_portable()
    ended = []

    class Interrupted(Timed):
        def __call__(self, graph, examples):
            timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
            timer.start()
            try:
                return super().__call__(graph, examples)
            finally:
                ended.append(timer.is_alive())
                timer.cancel()

    run = Run(
        neuron(model), MacoSettings(**SHORT, compile=True), progress=False,
        forms=Interrupted().store(),
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.draw([0])
    assert ended
    assert everything(model) == before
    assert global_state() == state
    assert torch._inductor.config.save_config_portable() == settings
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    assert close(drawn(model, store), plain(model))
