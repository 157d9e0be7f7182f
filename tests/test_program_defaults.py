"""Runs in programs that have changed torch's default type or device."""

import numpy as np
import pytest
import torch

from fvfast import Objective, Spectrum, maco, maco_batch, optimize
from fvfast.evaluation.metrics import mean_score

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 3, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}
PHOTOGRAPHS = torch.rand(2, 3, 32, 32)


def neuron(network):
    return Objective.neuron(network, "7", 1, input_shape=INPUT)


RUNS = {
    "neuron": lambda net: maco(neuron(net), **SHORT)[0],
    "fast": lambda net: maco(neuron(net), **SHORT, preset="fast")[0],
    "paper": lambda net: maco(neuron(net), **SHORT, preset="paper")[0],
    "sixteen bits": lambda net: maco(neuron(net), **SHORT, precision="bfloat16")[0],
    "closed form": lambda net: maco(neuron(net), maco_dataset=Spectrum.natural(), **SHORT)[0],
    "photographs": lambda net: maco(neuron(net), maco_dataset=PHOTOGRAPHS, **SHORT)[0],
    "channels": lambda net: (
        maco_batch(Objective.channel(net, 3, [0, 1], input_shape=INPUT), **SHORT).images
    ),
    "direction": lambda net: maco(
        Objective.direction(net, "7", np.arange(10.0), input_shape=INPUT), **SHORT
    )[0],
    "layer": lambda net: maco(Objective.layer(net, 3, input_shape=INPUT), **SHORT)[0],
    "function": lambda net: maco(
        Objective.from_callable(net, lambda x: net(x)[:, 1], input_shape=INPUT), **SHORT
    )[0],
    "optimize": lambda net: optimize(neuron(net), nb_steps=3, progress=False)[0],
    "score": lambda net: mean_score(PHOTOGRAPHS, neuron(net)),
}


@pytest.fixture(params=["float64", "another device"])
def other_defaults(request):
    """Make new tensors have another type, or lie elsewhere, unless they are told."""
    if request.param == "float64":
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(before)
    else:
        # Tensors there have no numbers: what reads one fails.
        with torch.device("meta"):
            yield


@pytest.fixture
def expected(network, run):
    """What a run gives in a program that has changed nothing: it comes first."""
    return RUNS[run](network)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("expected", "other_defaults")
def test_a_run_does_not_depend_on_them(network, expected, run):
    result = RUNS[run](network)
    assert len(result) == len(expected)
    assert all(map(torch.equal, result, expected))
