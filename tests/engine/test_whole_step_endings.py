"""Whole steps of images that end, have no gradient, or are interrupted."""

import math
import signal

import pytest
import torch
from emulated import ORDERS, emulated
from engine.recorded_steps import StepRecorder
from engine.whole_runs import INPUT, STEPS, assert_same, drawn, neurons, small_network
from injected_runs import graphs_by
from torch import nn

from fvfast import Linear
from fvfast.engine.graphs.repeated_steps import FIRST_REPLAY
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.parametrizations.optimizers import KerasNadam
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


@pytest.fixture
def network():
    return small_network()


class Overflows(nn.Module):
    """Scores that overflow, each in another step, as its pictures get better."""

    def __init__(self, limits):
        super().__init__()
        self.register_buffer("limits", torch.tensor(limits))

    def forward(self, scores):
        return scores + (scores - self.limits).clamp(min=0) * 1e38 * 1e10


# One view a step, and small steps: scores rise over the whole run.
RISING = {"nb_crops": 1, "box_size": 1.0, "noise_intensity": 0.0, "learning_rate": 0.03}


def overflowing(network, made):
    """An objective of six units, two of which overflow in later steps; and these steps."""
    plain, _ = drawn(FormStore(), neurons(network, list(range(6))), made)
    # A score is a sixth of what the network says of the view. Two units pass their limits, in the
    # steps of their best scores.
    best = plain.scores.argmax(1).tolist()
    ends = {step: unit for unit, step in enumerate(best) if step >= FIRST_REPLAY + 4}
    limits = [1e9] * 6
    for step in sorted(ends)[:2]:
        limits[ends[step]] = 5.999 * float(plain.scores[ends[step]].max())
    objective = neurons(nn.Sequential(*network, Overflows(limits)).eval(), list(range(6)))
    return objective, sorted(ends)[:2]


def steps_told(said):
    return [int(text.split()[1][:-1]) for text in said if "is not finite for" in text]


@pytest.mark.parametrize("save_every", [None, 3])
def test_endings_are_told_with_their_steps(network, save_every):
    made = MacoSettings(**{**STEPS, **RISING})
    objective, ends = overflowing(network, made)
    recorder = StepRecorder()
    found = drawn(graphs_by(None, recorder), objective, made, save_every)
    expected = drawn(FormStore(), objective, made, save_every)
    assert_same(found, expected)
    assert steps_told(expected[1]) == ends
    assert len(ends) == 2
    assert len(recorder.recordings) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_endings_on_emulated_kernels(network, order):
    made = MacoSettings(**{**STEPS, **RISING, "custom_shape": (12, 10)})
    recorder = StepRecorder()
    with emulated(order):
        objective, ends = overflowing(network, made)
        found = drawn(graphs_by(None, recorder), objective, made, 7)
        expected = drawn(FormStore(), objective, made, 7)
    assert_same(found, expected)
    assert steps_told(expected[1]) == ends
    assert len(ends) == 2
    assert recorder.replays > 4


class Explodes(Linear):
    """Steps that are as long as numbers are, after the middle of the run."""

    def at(self, step, nb_steps):
        return 3.4e38 if step > nb_steps // 2 else 1.0


def with_short_memory(parameters):
    """Steps that are longer than the learning rate where the gradient was larger before."""
    return KerasNadam(parameters, betas=(0.9, 0.0), eps=1e-30, maximize=True)


def assert_all_end_by_updates(store, network, save_every=None):
    made = MacoSettings(
        **STEPS,
        learning_rate=Explodes(1.0, 3.4e38),
        optimizer=with_short_memory,
        noise_intensity=0.0,
    )
    objective = neurons(network, [0, 1, 4])
    found = drawn(store, objective, made, save_every)
    expected = drawn(FormStore(), objective, made, save_every)
    assert_same(found, expected)
    assert all("the image after its update" in text for text in expected[1])
    assert steps_told(expected[1]) == [STEPS["nb_steps"] // 2 + 1]
    assert all(images.isfinite().all() for images in found[0].images)


@pytest.mark.parametrize("save_every", [None, 5])
def test_updates_that_overflow_are_taken_back(network, save_every):
    recorder = StepRecorder()
    assert_all_end_by_updates(graphs_by(None, recorder), network, save_every)
    assert recorder.replays > 4


@pytest.mark.parametrize("order", ORDERS)
def test_updates_that_overflow_are_taken_back_on_emulated_kernels(network, order):
    recorder = StepRecorder()
    with emulated(order):
        assert_all_end_by_updates(graphs_by(None, recorder), network)
    assert recorder.replays > 4


class Leaps(Linear):
    """Steps after the middle of the run after which all phases are large, and none is infinite."""

    def at(self, step, nb_steps):
        return 1e38 if step > nb_steps // 2 else 1.0


def without_memory(parameters):
    """Steps of the learning rate, up or down."""
    return KerasNadam(parameters, betas=(0.0, 0.0), eps=1e-30, maximize=True)


@pytest.mark.parametrize("save_every", [None, 5])
def test_finite_phases_end_no_image_although_their_sum_overflows(network, save_every):
    made = MacoSettings(
        **STEPS, learning_rate=Leaps(1.0, 1e38), optimizer=without_memory, noise_intensity=0.0
    )
    objective = neurons(network, [0, 1, 4])
    recorder = StepRecorder()
    found = drawn(graphs_by(None, recorder), objective, made, save_every)
    expected = drawn(FormStore(), objective, made, save_every)
    assert_same(found, expected)
    assert not expected[1]
    assert recorder.replays > 4


@pytest.mark.parametrize("save_every", [None, 5])
def test_gradients_are_finite_although_their_sum_overflows(save_every):
    """So that it is the update which ends the images: there, numbers do overflow."""
    bright = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(INPUT), 2, bias=False)).eval()
    with torch.no_grad():
        bright[1].weight.fill_(5e36)
    made = MacoSettings(**STEPS, values_range=(-0.1, 0.1))
    objective = neurons(bright, [0, 1])
    found = drawn(graphs_by(None, StepRecorder()), objective, made, save_every)
    expected = drawn(FormStore(), objective, made, save_every)
    assert_same(found, expected)
    assert steps_told(expected[1]) == [0]
    assert "the image after its update" in expected[1][0]


@pytest.mark.parametrize("unit", [0, 1])
def test_dead_units_are_told(network, unit):
    with torch.no_grad():
        network[3].weight[0] = 0
    made = MacoSettings(**STEPS)
    found = drawn(graphs_by(None, StepRecorder()), neurons(network, [unit]), made)
    expected = drawn(FormStore(), neurons(network, [unit]), made)
    assert_same(found, expected)
    assert len(expected[1]) == (1 if unit == 0 else 0)


class InterruptedAt(StepRecorder):
    """The user interrupts while a replay runs."""

    def __init__(self, replay):
        super().__init__()
        self.at = replay

    def __call__(self, steps, state):
        replay = super().__call__(steps, state)

        def interrupted():
            replay()
            if self.replays == self.at:
                signal.raise_signal(signal.SIGINT)

        return interrupted


@pytest.mark.parametrize("at", [1, 2, 9, 17])
def test_an_interrupt_keeps_the_steps_that_were_taken(network, at):
    made = MacoSettings(**STEPS)
    objective = neurons(network, [1, 2])
    found, said = drawn(graphs_by(None, InterruptedAt(at)), objective, made)
    assert found.interrupted
    taken = found.scores.shape[1]
    assert taken == FIRST_REPLAY + 2 * at
    assert said[0].startswith(f"interrupted after {taken} of 40 steps")
    stopped = Run(
        objective, made, progress=False, callback=lambda report: report.step == taken - 1
    ).draw([0, 1])
    assert torch.equal(found.images[-1], stopped.images[-1])
    assert torch.equal(found.transparencies[-1], stopped.transparencies[-1])
    assert torch.equal(found.scores, stopped.scores)
