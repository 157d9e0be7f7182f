"""Which candidate runs an epilogue is decided by time, layer by layer, without changing pictures.

A timer that is handed in says how long the candidates take; they really run, on the processor.
"""

import dataclasses
import functools

import pytest
import torch
from emulated import emulated
from engine.cuda_stand_in import GPU
from engine.plans import gradients, objective_of, plan_of, relative, views_of
from engine.test_epilogues import Cudnn, cudnn_on_the_processor
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.epilogue_choice import (
    ConvolutionCall,
    EpilogueChooser,
    gpu_timer,
    seconds_on_gpu,
)
from fvfast.engine.rewrite.epilogues import Epilogue
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.engine.rewrite.plan import Planner

SHAPE = (2, 3, 8, 9)


class StandInTimer:
    """Runs each call, as a timer does, and says how long the candidates take, in their order.

    Parameters
    ----------
    seconds
        Of fvfast's kernel, of separate calls, and of cuDNN.
    """

    def __init__(self, *seconds):
        self.seconds = seconds
        self.outputs = []  # of each measurement

    def __call__(self, calls):
        self.outputs.append([call() for call in calls])
        return list(self.seconds[: len(calls)])


def frozen(outputs=4, *, bias=True, activation="relu", dtype=torch.float64, seed=0):
    """A convolution; without a bias, its candidates have the same bits in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, 3, 3, 3, generator=generator).to(dtype)
    return FrozenConvolution(
        weight, torch.randn(outputs, generator=generator).to(dtype) if bias else None,
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, activation=activation,
    )  # fmt: skip


def call_of(convolution, *, adds=False, shape=SHAPE):
    images = torch.zeros(shape, dtype=convolution.weight.dtype)
    return ConvolutionCall.of(images, torch.zeros(1) if adds else None)


def choose(timer, *convolutions, any_bits=False, adds=False):
    """Kinds that are chosen, and notes."""
    chooser = EpilogueChooser(timer, any_bits=any_bits)
    calls = {id(one): call_of(one, adds=adds) for one in convolutions}
    chosen = chooser.choose(convolutions, calls)
    return [epilogue and epilogue.kind for epilogue in chosen], chooser.notes


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [((1.0, 0.5), "separate"), ((1.0, 0.96), "fvfast"), ((1.0, 0.94), "separate"),
     ((0.5, 1.0), "fvfast")],
)  # fmt: skip
def test_separate_calls_must_be_clearly_faster(seconds, kind):
    timer = StandInTimer(*seconds)
    assert choose(timer, frozen(bias=False)) == ([kind], [])
    ((ours, separate),) = timer.outputs
    assert torch.equal(ours, separate)
    assert ours.shape == (2, 4, 8, 9)


def test_only_auto_takes_a_candidate_with_other_bits():
    """In 16 bits separate calls round more often: a picture would depend on what was faster."""
    convolution, timer = frozen(dtype=torch.float16), StandInTimer(1.0, 0.1, 1.0)
    assert choose(timer, convolution) == (["fvfast"], [])
    assert timer.outputs == []  # there was nothing to choose
    with cudnn_on_the_processor(Cudnn()):
        assert choose(timer, convolution, any_bits=True)[0] == ["separate"]


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize(
    ("seconds", "kind"),
    [((1.0, 1.0, 0.5), "cudnn"), ((1.0, 0.5, 0.6), "separate"), ((1.0, 1.1, 17.0), "fvfast")],
)
def test_cudnn_is_timed_too(seconds, kind, adds):
    with cudnn_on_the_processor(Cudnn()):
        timer = StandInTimer(*seconds)
        assert choose(timer, frozen(), any_bits=True, adds=adds) == ([kind], [])
    assert len(timer.outputs[0]) == 3


def test_cudnn_is_not_tried_without_a_relu():
    cudnn = Cudnn()
    with cudnn_on_the_processor(cudnn):
        for activation in ("none", "relu6"):
            convolution = frozen(activation=activation)
            choose(StandInTimer(1.0, 1.0), convolution, any_bits=True)
    assert cudnn.calls == 0


def test_a_candidate_that_fails_is_left_out_and_named():
    timer = StandInTimer(1.0, 1.0)

    def refuse(*_):
        raise RuntimeError("FIND was unable to find an engine\nin two lines")

    with cudnn_on_the_processor(refuse):
        kinds, notes = choose(timer, frozen(4), frozen(5), frozen(4, seed=1), any_bits=True)
    assert kinds == ["fvfast"] * 3
    reason = "cuDNN's fused call: RuntimeError: FIND was unable to find an engine"
    assert notes == [f"{reason} (3 convolutions)"]
    assert len(timer.outputs) == 2  # equal layers are measured once


def test_a_candidate_with_another_result_is_left_out():
    def forgets_the_bias(images, weight, term, _bias, *settings):
        return Cudnn()(images, weight, term, None, *settings)

    with cudnn_on_the_processor(forgets_the_bias):
        kinds, notes = choose(StandInTimer(1.0, 1.0, 0.1), frozen(), any_bits=True)
    assert kinds == ["fvfast"]
    assert notes == ["cuDNN's fused call: changes the output of a convolution (1 convolution)"]


def test_a_convolution_without_an_epilogue():
    bare, other = frozen(bias=False, activation="none"), frozen()
    assert choose(StandInTimer(1.0, 1.0), bare, other)[0] == [None, "fvfast"]
    chooser = EpilogueChooser(StandInTimer(1.0, 1.0), any_bits=False)
    assert chooser.choose([other], {}) == (None,)  # it was not called


def test_too_little_memory_to_try():
    def fails(_calls):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    kinds, notes = choose(fails, frozen(bias=False))
    assert kinds == ["separate"]
    assert notes == ["fused epilogues: too little memory to try them (1 convolution)"]


def test_calls_are_timed_with_the_views_of_a_pass():
    call = call_of(frozen(), shape=(4, 3, 8, 9))
    assert call.repeated(8.0).shape == (32, 3, 8, 9)
    assert call.repeated(0.1).shape == (1, 3, 8, 9)
    last = torch.zeros(4, 3, 8, 9).contiguous(memory_format=torch.channels_last)
    assert ConvolutionCall.of(last, last).memory_format is torch.channels_last


class Block(nn.Module):
    """A residual block between two other convolutions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.inner, self.last = (
            nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1, bias=False)
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last((self.norm(self.inner(x)) + x).relu())


class CountingEpilogues(TorchDispatchMode):
    """Counts the calls of fvfast's operation."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.fvfast.convolution_epilogue_.default
        return func(*args, **(kwargs or {}))


def planner_with(timer):
    return functools.partial(Planner, timer_for=lambda _device: timer)


def test_a_plan_has_the_choice_and_says_so():
    objective = objective_of(Block().eval(), "")
    timer = StandInTimer(1.0, 1.0)
    plan = plan_of(objective, views=views_of(8), planner=planner_with(timer))
    assert plan.form.sums
    assert plan.epilogues == (
        Epilogue("fvfast", (8, 3, 20, 20)), Epilogue("fvfast", (8, 8, 18, 18)), None
    )  # fmt: skip
    assert dict(plan.describe())["epilogues"] == "2 fused by fvfast, 0 by cuDNN, 0 separate"
    assert "epilogues" not in dict(plan_of(objective).describe())


def test_a_plan_names_what_failed():
    """On the processor cuDNN's call is refused by torch."""
    objective = objective_of(Block().eval(), "")
    plan = plan_of(objective, "auto", planner=planner_with(StandInTimer(1.0, 1.0)))
    failed = "cuDNN's fused call: NotImplementedError: Could not run 'aten::cudnn_convolution_"
    notes = [note for note in plan.notes if note.startswith(failed)]
    assert len(notes) == 2  # with a sum, and without
    assert {("left out", note) for note in notes} <= set(plan.describe())


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_a_run_uses_the_choice(precision):
    objective = objective_of(Block().eval(), "")
    with emulated("emulated random"):
        timer = StandInTimer(1.0, 1.0)
        plan = plan_of(objective, precision, planner=planner_with(timer))
        with CountingEpilogues() as counting:
            scores, gradient = gradients(objective, plan)
        assert counting.count == 2
    separate = dataclasses.replace(plan, epilogues=())
    exact_scores, exact = gradients(objective, separate)
    limit = 1e-5 if precision is None else 0.02
    assert relative(gradient, exact) < limit
    assert relative(scores, exact_scores) < limit


def test_the_form_that_is_kept_has_the_choice():
    objective = objective_of(Block().eval(), "")
    tapped, _, names, _ = objective.compile()
    with borrowed(objective.model):
        planner = planner_with(StandInTimer(1.0, 1.0))(
            tapped, objective.scorer([0]), views_of(), names[0]
        )
        plan, running = planner.plan(None)
        with CountingEpilogues() as counting, running.context(torch.device("cpu")):
            tapped(running.form.feed(views_of()))
    assert [one.epilogue.kind for one in running.joined_convolutions] == [
        "fvfast", "fvfast", "separate"
    ]  # fmt: skip
    assert counting.count == 2
    assert len(plan.epilogues) == len(plan.convolutions)


def test_nothing_is_timed_on_the_processor_nor_during_a_capture(monkeypatch):
    assert gpu_timer(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu_timer(GPU) is None


class Device:
    """Stands in for a GPU: calls take time on it, and so do its launches on the host."""

    def __init__(self):
        self.clock = 0.0  # of the device, in milliseconds
        self.order = []

    def work(self, name, *milliseconds):
        times = iter(milliseconds)

        def call():
            self.order.append(name)
            self.clock += next(times)

        return call

    def event(self, *, enable_timing):
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.time = self.device.clock

    def synchronize(self):
        self.device.order.append("wait")

    def elapsed_time(self, end):
        return end.time - self.time


def test_calls_are_timed_in_turns_by_the_devices_clock(monkeypatch):
    device = Device()
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda _cycles: setattr(device, "clock", 1e3))
    one = device.work("one", 2, 2, 9, 9, 3, 3)
    other = device.work("other", 4, 6, 5, 5, 100, 100)
    seconds = seconds_on_gpu([one, other], rounds=3, repeats=2)
    assert seconds == pytest.approx([3e-3, 5e-3])
    assert device.order == ["one", "one", "wait", "other", "other", "wait"] * 3
