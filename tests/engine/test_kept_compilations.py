"""Compiled networks in later calls and in passes of other sizes; what they leave behind."""

import contextlib
import gc
import logging
import weakref

import pytest
import torch
from engine.compiled_networks import INPUT, LOGGED, SHORT, Swish, close, drawn, neuron, notes, plain
from engine.compiler_stand_in import StandIn
from misbehaving import everything, global_state

import fvfast.engine
from fvfast import Objective, maco_batch
from fvfast.engine.compiled.kept import MOST_SHAPES, Compilation, CompiledForms, Wish
from fvfast.run.batches import draw_batches
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


@pytest.fixture(autouse=True)
def nothing_kept():
    fvfast.engine.clear()
    yield
    fvfast.engine.clear()


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
