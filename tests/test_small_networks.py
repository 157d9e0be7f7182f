"""Networks with small inputs: what people train first, and draw first."""

import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from fvfast import Linear, Objective, maco, maco_batch
from fvfast.transformations import resize


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


@pytest.fixture(scope="module", params=[convolutions, perceptron])
def digits(request):
    """A network that tells scikit-learn's 1,797 handwritten digits of 8 x 8 pixels apart."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(data.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = request.param()
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for _ in range(40):
            for part in torch.randperm(len(images)).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images[part]), labels[part]).backward()
                optimizer.step()
    assert (network.eval()(images).argmax(1) == labels).float().mean() > 0.97
    return network


def test_the_network_recognizes_its_own_digits(digits):
    objective = Objective.neuron(digits, -1, list(range(10)), input_shape=(1, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = maco_batch(objective, preset="small", values_range=(0, 1), progress=False)
    assert drawn.images.shape == (10, 1, 64, 64)
    recognized = digits(resize(drawn.images, (8, 8))).argmax(1)
    assert (recognized == torch.arange(10)).sum() >= 9


def small_objective(size):
    return Objective.layer(nn.Conv2d(1, 2, 3, padding=1).eval(), -1, input_shape=(1, size, size))


@pytest.mark.parametrize("settings", [{}, {"preset": "fast"}, {"box_size": 0.3}])
def test_crops_for_a_small_network_are_said(settings):
    with pytest.warns(UserWarning, match=r'takes images of 32 x 32, .*preset="small"'):
        maco(small_objective(32), **{"nb_steps": 2, "custom_shape": 16, **settings}, progress=False)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (64, {"nb_crops": 1}),
        (32, {"preset": "small"}),
        (32, {"nb_crops": 0}),
        (32, {"nb_crops": 1, "box_size": 0.9}),
        (32, {"nb_crops": 1, "box_size": Linear(1, 0.7)}),
    ],
)
def test_nothing_is_said_where_the_settings_suit(size, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maco(
            small_objective(size),
            **{"nb_steps": 1, "custom_shape": 16, **settings},
            progress=False,
        )
