"""Whole steps that are recorded once: the same pictures as steps that the host takes."""

import warnings

import pytest
import torch
from emulated import ORDERS, emulated
from engine.recorded_steps import StepRecorder
from injected_runs import drawn_with, graphs_by
from torch import nn

from fvfast import Geometric, Linear, Objective
from fvfast.engine.graphs.cuda_graph import EAGER_PASSES
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run

INPUT = (3, 12, 12)
STEPS = {"nb_steps": 40, "nb_crops": 3, "custom_shape": (16, 20)}


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(800, 6)
        ).eval()


def neurons(network, units):
    return Objective.neuron(network, -1, units, input_shape=INPUT)


def drawn(store, objective, settings, save_every=None):
    """What a run of all combinations gives, and its warnings."""
    run = Run(objective, settings, progress=False, forms=store)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ascent = run.draw(range(len(objective.combination_names)), save_every)
    return ascent, [str(warning.message) for warning in caught]


def assert_same(found, expected):
    (ascent, said), (other, other_said) = found, expected
    assert said == other_said
    assert len(ascent.images) == len(other.images)
    for name in ("images", "transparencies"):
        for one, two in zip(getattr(ascent, name), getattr(other, name), strict=True):
            assert torch.equal(one, two), name
    torch.testing.assert_close(ascent.scores, other.scores, rtol=0, atol=0, equal_nan=True)


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
        assert recorder.replays == 1 + (STEPS["nb_steps"] - EAGER_PASSES - 1 - 2) // 2
