"""The examples of Xplique's two documentation pages, with the imports changed."""

import functools

import matplotlib as mpl
import pytest
import torch
from torch import nn

import fvfast
from fvfast import Objective
from fvfast.plot import plot_maco

mpl.use("Agg")

# The calls stay as documented; only their default numbers of steps and crops are cut.
optimize = functools.partial(fvfast.optimize, nb_steps=2)
maco = functools.partial(fvfast.maco, nb_steps=2, nb_crops=2)


@pytest.fixture
def model():
    """A network with the layer names of the examples."""
    torch.manual_seed(0)
    layers = nn.Sequential()
    layers.add_module("conv2d_1", nn.Conv2d(3, 8, 3))
    layers.add_module("relu_1", nn.ReLU())
    layers.add_module("mixed4_2", nn.Conv2d(8, 16, 3, stride=2))
    layers.add_module("relu_2", nn.ReLU())
    layers.add_module("pool", nn.AdaptiveAvgPool2d(1))
    layers.add_module("flatten", nn.Flatten())
    layers.add_module("logits", nn.Linear(16, 10))
    layers.input_shape = (3, 32, 32)
    return layers.eval()


def test_ten_logits(model):
    logits_obj = Objective.neuron(model, "logits", list(range(10)))
    images, obj_names = optimize(logits_obj)  # 10 images, one for each logits
    assert images[-1].shape == (10, 3, 512, 512)
    assert obj_names == [f"Neuron#logits_{i}" for i in range(10)]


def test_combination_of_objectives(model):
    logits_obj = Objective.neuron(model, "logits", 0)
    layer_obj = Objective.layer(model, "conv2d_1")
    channel_obj = Objective.channel(model, "mixed4_2", 2)

    obj = logits_obj * 1.0 + layer_obj * 3.0 + channel_obj * (-5.0)
    assert obj.multipliers == [1.0, 3.0, -5.0]
    images, obj_names = optimize(logits_obj)  # 1 resulting image
    assert len(obj_names) == 1
    images, obj_names = optimize(obj)
    assert images[-1].shape == (1, 3, 512, 512)
    assert obj_names == ["Neuron#logits_0 & Layer#conv2d_1 & Channel#mixed4_2_2"]


def test_signs_of_a_combination(model):
    a, b, c = (Objective.neuron(model, "logits", i) for i in range(3))
    reconfigured, function, _, _ = (a * 1.0 + b * 3.0 + c * (-5.0)).compile()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)[0] / 10
        score = function(reconfigured(images))
    assert torch.allclose(score[0], logits[0] + 3 * logits[1] - 5 * logits[2])


def test_maco_of_a_logit(model):
    logits_obj = Objective.neuron(model, "logits", 1)
    image, alpha = maco(logits_obj)
    plot_maco(image, alpha)
    assert image.shape == alpha.shape == (3, 512, 512)


def test_maco_of_a_direction(model):
    cav = torch.randn(16)
    logits_obj = Objective.direction(model, -2, cav)
    image, alpha = maco(logits_obj)
    plot_maco(image, alpha)
    assert image.shape == alpha.shape == (3, 512, 512)
