"""Runs of a small network whose steps are taken whole, or by the host; and their comparison."""

import warnings

import torch
from torch import nn

from fvfast import Objective
from fvfast.run.run import Run

INPUT = (3, 12, 12)
STEPS = {"nb_steps": 40, "nb_crops": 3, "custom_shape": (16, 20)}


def small_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(800, 6)).eval()


def neurons(network, units):
    # Names decide what is drawn: here not by the name of the layer.
    names = [f"unit {unit}" for unit in units]
    return Objective.neuron(network, -1, units, names=names, input_shape=INPUT)


def drawn(store, objective, settings, save_every=None):
    """What a run of all combinations gives, and its warnings."""
    run = Run(objective, settings, progress=False, forms=store)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ascent = run.draw(range(len(objective.combination_names)), save_every)
    told = [warning for warning in caught if warning.category is RuntimeWarning]
    return ascent, [str(warning.message) for warning in told]


def assert_same(found, expected):
    (ascent, said), (other, other_said) = found, expected
    assert said == other_said
    assert len(ascent.images) == len(other.images)
    for name in ("images", "transparencies"):
        for one, two in zip(getattr(ascent, name), getattr(other, name), strict=True):
            assert torch.equal(one, two), name
    torch.testing.assert_close(ascent.scores, other.scores, rtol=0, atol=0, equal_nan=True)
