"""Whole steps that are recorded once: the same pictures as steps that the host takes."""

import gc
import weakref

import pytest
import torch
from emulated import ORDERS, emulated
from engine.recorded_steps import StepRecorder
from engine.whole_runs import STEPS, assert_same, drawn, neurons, small_network
from injected_runs import InjectedSettings, graphs_by
from torch import nn

from fvfast import Geometric, Linear, Objective
from fvfast.engine.graphs.repeated_steps import FIRST_REPLAY
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.crop_resize import random_crops
from fvfast.regularizers import l1_reg
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


@pytest.fixture
def network():
    return small_network()


SETTINGS = {
    "xplique": {},
    "fast": {"preset": "fast"},
    "geometric noise": {"noise_intensity": Geometric(1, 1e-3), "learning_rate": Linear(1, 0.1)},
    "paper": {"preset": "paper"},
    "no noise": {"noise_intensity": 0.0},
}


@pytest.mark.parametrize("save_every", [None, 5, 7])
@pytest.mark.parametrize("units", [[2], [0, 1, 4]])
@pytest.mark.parametrize("settings", SETTINGS)
def test_replayed_steps_are_the_steps_of_the_host(network, settings, units, save_every):
    made = MacoSettings.with_preset(**SETTINGS[settings], **STEPS)
    recorder = StepRecorder()
    objective = neurons(network, units)
    found = drawn(graphs_by(None, recorder), objective, made, save_every)
    assert_same(found, drawn(FormStore(), objective, made, save_every))
    assert len(recorder.recordings) == 1
    if save_every is None:
        # All but those before the capture and those that it is compared with.
        assert recorder.replays == (STEPS["nb_steps"] - FIRST_REPLAY) // 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("units", [[3], [0, 1, 2, 5]])
def test_one_recording_serves_64_steps_on_emulated_kernels(network, units, order):
    made = MacoSettings(nb_steps=64 + FIRST_REPLAY, nb_crops=2, custom_shape=(12, 10))
    objective = neurons(network, units)
    recorder = StepRecorder()
    with emulated(order):
        found = drawn(graphs_by(None, recorder), objective, made)
        expected = drawn(FormStore(), objective, made)
    assert_same(found, expected)
    assert (len(recorder.recordings), recorder.replays) == (1, 32)


@pytest.mark.parametrize("save_every", [None, 7])
@pytest.mark.parametrize("view_size", [Linear(0.5, 1), Linear(1, 0.3)])
def test_views_of_each_size_have_a_graph(view_size, save_every):
    pooled = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 6),
    ).eval()  # fmt: skip
    made = MacoSettings(nb_steps=60, nb_crops=2, custom_shape=(24, 20), view_size=view_size)
    recorder = StepRecorder()
    recorded = Run(
        Objective.neuron(pooled, -1, [0, 1, 4], input_shape=(3, 96, 96)), made, progress=False,
        forms=graphs_by(None, recorder),
    )  # fmt: skip
    plain = Run(recorded.objective, made, progress=False, forms=FormStore())
    for batch in ([0, 1], [2, 0]):
        found, expected = recorded.draw(batch, save_every), plain.draw(batch, save_every)
        assert_same((found, []), (expected, []))
    assert recorded.how_steps_run == "replayed from a CUDA graph, two at once"
    sizes = {recorded.views.size_at(step) for step in range(60)}
    assert len(recorder.recordings) == len(sizes) > 1


def leaky_boxes(box_size, *arguments, step, **settings):
    """Boxes whose size comes from the host, which a recording freezes."""
    if isinstance(box_size, torch.Tensor):
        box_size = float(box_size[int(step)])
    return draw_boxes(box_size, *arguments, step=step, **settings)


def test_a_number_of_the_host_is_found(network):
    """Where boxes shrink so slowly that the first replay differs by less than rounding may."""
    settings = {"box_size": Linear(0.6, 0.599), **STEPS, "nb_steps": 64}
    leaky = InjectedSettings(**settings, crops={"draw": leaky_boxes})
    recorder = StepRecorder()
    found, _ = drawn(graphs_by(None, recorder), neurons(network, [1]), leaky)
    expected, _ = drawn(FormStore(), neurons(network, [1]), MacoSettings(**settings))
    assert recorder.replays > 1
    assert not torch.equal(found.images[-1], expected.images[-1])


def test_a_number_of_the_host_that_matters_ends_the_replays(network):
    leaky = InjectedSettings(
        **{**STEPS, "nb_steps": 20}, box_size=Linear(1.0, 0.05), crops={"draw": leaky_boxes}
    )
    plain = MacoSettings(**{**STEPS, "nb_steps": 20}, box_size=Linear(1.0, 0.05))
    recorder = StepRecorder()
    found = drawn(graphs_by(None, recorder), neurons(network, [1]), leaky)
    assert_same(found, drawn(FormStore(), neurons(network, [1]), plain))
    assert recorder.replays == 2


def test_two_batches_go_through_one_recording(network):
    made = MacoSettings(**STEPS)
    objective = neurons(network, list(range(6)))
    recorder = StepRecorder()
    recorded = Run(objective, made, progress=False, forms=graphs_by(None, recorder))
    plain = Run(objective, made, progress=False, forms=FormStore())
    for batch in ([0, 1], [4, 2], [3, 5]):
        found, expected = recorded.draw(batch), plain.draw(batch)
        assert_same((found, []), (expected, []))
    assert len(recorder.recordings) == 1


def test_another_run_uses_the_recording_of_the_first(network):
    store, recorder = FormStore(), StepRecorder()
    store = graphs_by(None, recorder)
    for unit in (1, 4, 0):
        found = drawn(store, neurons(network, [unit]), MacoSettings(**STEPS))
        assert_same(found, drawn(FormStore(), neurons(network, [unit]), MacoSettings(**STEPS)))
    assert len(recorder.recordings) == 1
    for other in ({"seed": 1}, {"box_size": 0.3}, {"nb_steps": 41}, {"values_range": (0, 2)}):
        made = MacoSettings(**{**STEPS, **other})
        found = drawn(store, neurons(network, [1]), made)
        assert_same(found, drawn(FormStore(), neurons(network, [1]), made))
    assert len(recorder.recordings) == 5


def test_a_recording_does_not_hold_the_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(400, 3)).eval()
    store = graphs_by(None, CountingCapture())
    drawn(store, neurons(network, [1]), MacoSettings(**STEPS))
    freed = weakref.ref(network)
    del network
    gc.collect()
    assert freed() is None


class CountingCapture:
    """A graph that has no reference to what it repeats, as a GPU's has none: it repeats nothing."""

    def __call__(self, _steps, _state):
        return lambda: None


class Noisy(nn.Module):
    """Draws a number for each of its inputs."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def test_a_network_that_draws_runs_step_by_step(network):
    """And draws in each step what it would draw in steps of the host."""
    noisy = nn.Sequential(network[0], Noisy(), *network[1:]).eval()
    made = MacoSettings(**{**STEPS, "nb_steps": 12})
    recorder = StepRecorder()
    run = Run(neurons(noisy, [1, 2]), made, progress=False, forms=graphs_by(None, recorder))
    found = run.draw([0, 1])
    assert run.how_steps_run == "without a CUDA graph: the network draws random numbers"
    assert not recorder.recordings
    assert_same((found, []), drawn(FormStore(), neurons(noisy, [1, 2]), made))


WITH_THE_HOST = {
    "an optimizer": {"optimizer": torch.optim.Adam},
    "whole images": {"nb_crops": 0},
    "a color shift": {"color_shift": 0.5},
    "a regularizer": {"regularizers": l1_reg()},
    "a function of the step": {"box_size": lambda _step: 0.4},
    "a pyramid": {"preset": "pyramid"},
}


@pytest.mark.parametrize("case", WITH_THE_HOST)
def test_what_wants_the_host_runs_as_before(network, case):
    made = MacoSettings.with_preset(**{**STEPS, "nb_steps": 8, **WITH_THE_HOST[case]})
    recorder = StepRecorder()
    objective = neurons(network, [1])
    store = graphs_by(lambda run, _views: run, recorder)
    assert_same(drawn(store, objective, made), drawn(FormStore(), objective, made))
    assert not recorder.recordings


def test_crops_of_another_function_run_as_before(network):
    """They may have another gradient than that of cropping."""

    def crop(*arguments, **settings):
        return 2 * random_crops(*arguments, **settings)

    made = InjectedSettings(**{**STEPS, "nb_steps": 8}, crops={"crop": crop})
    recorder = StepRecorder()
    store = graphs_by(lambda run, _views: run, recorder)
    run = Run(neurons(network, [1]), made, progress=False, forms=store)
    assert_same((run.draw([0]), []), drawn(FormStore(), neurons(network, [1]), made))
    assert run.how_steps_run == "one by one: crops of another function"
    assert not recorder.recordings


def test_callbacks_hear_of_each_step(network):
    recorder, steps = StepRecorder(), []
    run = Run(
        neurons(network, [1]), MacoSettings(**STEPS), progress=False,
        forms=graphs_by(lambda run, _views: run, recorder),
        callback=lambda report: steps.append(report.step),
    )  # fmt: skip
    run.draw([0])
    assert steps == list(range(40))
    assert not recorder.recordings
