"""The probe run: what it refuses, what it warns of, and what it reports."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import transforms

from fvfast import Objective, maco
from fvfast.engine.network.layers import find_layer, trace_layers

INPUT = (3, 20, 20)
QUICK = {"nb_steps": 2, "nb_crops": 2, "custom_shape": 24, "progress": False}


class Processor:
    """Returns a dictionary, as the image processors of transformers do."""

    def __call__(self, images):
        return {"pixel_values": images}


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (transforms.ToTensor(), r"preprocess \(ToTensor\) failed on one image .* TypeError: pic"),
        (
            transforms.Compose([transforms.ToTensor()]),
            r"preprocess \(Compose\) failed on one image",
        ),
        (lambda x: np.asarray(x) / 2, r"preprocess \(<lambda>\) failed .* requires grad"),
        (lambda x: x.detach().numpy(), r"returned a ndarray; expected a float tensor"),
        (Processor(), r"preprocess \(Processor\) returned a dict"),
        (lambda x: (x * 255).to(torch.uint8), r"returned a tensor of torch\.uint8, which carries"),
        (
            lambda x: torch.from_numpy(x.detach().numpy() * 2),
            r"returned a tensor that no gradient passes through",
        ),
        (lambda x: x[:, :, :, 99], r"failed on one image .* IndexError"),
    ],
)
def test_preprocess_that_does_not_fit_is_named(network, preprocess, message):
    def on_a_layer():
        Objective.neuron(network, "7", 1, input_shape=INPUT, preprocess=preprocess)

    def on_a_function():
        maco(
            Objective.from_callable(
                network, lambda x: network(x)[:, 0], input_shape=INPUT, preprocess=preprocess
            ),
            **QUICK,
        )

    for make in (on_a_layer, on_a_function):
        with pytest.raises(ValueError, match=message) as raised:
            make()
        assert "transforms.Normalize(mean, std)" in str(raised.value)
        assert "input_shape=" not in str(raised.value)


@pytest.mark.parametrize(
    "preprocess",
    [
        transforms.Normalize([0.5] * 3, [0.2] * 3),
        transforms.Compose([transforms.Resize(24), transforms.CenterCrop(20)]),
        lambda x: x.sub(1).mul_(3),
        nn.Conv2d(3, 3, 1),
    ],
)
def test_preprocess_that_fits(network, preprocess):
    objective = Objective.neuron(network, "7", 1, input_shape=INPUT, preprocess=preprocess)
    assert maco(objective, **QUICK)[0].isfinite().all()


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fourier = Fourier()
        self.largest = Largest()

    def forward(self, x):
        return self.largest(self.fourier(self.conv(x)).abs())


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x)


class Largest(nn.Module):
    def forward(self, x):
        return x.argmax(1), x


def test_complex_outputs_are_refused_by_every_objective():
    model = Complex().eval()
    message = r"layer 'fourier' puts out complex numbers \(torch\.complex64\).*view_as_real"
    for make in (
        lambda: Objective.layer(model, "fourier", input_shape=INPUT),
        lambda: Objective.channel(model, "fourier", 1, input_shape=INPUT),
        lambda: Objective.neuron(model, "fourier", 1, input_shape=INPUT),
        lambda: Objective.direction(model, "fourier", torch.ones(4), input_shape=INPUT),
        lambda: Objective(
            model, ["fourier"], [[None]], [lambda x, _: x], [1], ["x"], input_shape=INPUT
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    for real in (torch.abs, torch.view_as_real):
        function = Objective.from_callable(
            model,
            lambda x, real=real: real(model.fourier(model.conv(x))).flatten(1).mean(1),
            input_shape=INPUT,
        )
        assert maco(function, **QUICK)[0].isfinite().all()


def test_complex_scores_are_refused():
    objective = Objective.from_callable(None, lambda x: torch.fft.fft2(x).mean(), input_shape=INPUT)
    with pytest.raises(TypeError, match=r"score function returned complex numbers.*torch\.abs"):
        maco(objective, **QUICK)


def test_outputs_without_gradients_are_refused():
    model = Complex().eval()
    message = r"'largest' puts out torch\.int64, through which no gradient .* a key of \[0, 1\]"
    with pytest.raises(ValueError, match=message):
        Objective.layer(model, "largest", input_shape=INPUT)
    assert Objective.layer(model, ("largest", 1), input_shape=INPUT).layers[0].shape == (4, 18, 18)


class Normalized(nn.Module):
    """A function that normalizes by the batch, with a layer before it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Identity()

    def forward(self, x):
        return self.head(functional.batch_norm(self.conv(x), None, None, training=True))


def without_statistics():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()
    ).eval()


@pytest.mark.parametrize(
    ("make", "before", "behind"),
    [(without_statistics, "0", ["1", "2"]), (Normalized, "conv", ["head"])],
)
def test_statistics_of_the_batch_are_told_once(make, before, behind):
    model = make().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Objective.channel(model, before, 0, input_shape=INPUT)
        for layer in behind:
            fresh = make().eval()
            with pytest.warns(UserWarning, match="without running statistics") as told:
                Objective.channel(fresh, layer, 0, input_shape=INPUT)
            Objective.channel(fresh, layer, 1, input_shape=INPUT)
            assert told[0].filename == __file__


def test_running_statistics_are_not_told(network):
    Objective.channel(network, "2", 0, input_shape=INPUT)
    instance = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4)).eval()
    Objective.channel(instance, "2", 0, input_shape=INPUT)


def test_two_images_where_one_has_no_statistics():
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 6),
        nn.BatchNorm1d(6, track_running_stats=False),
        nn.Linear(6, 4),
    ).eval()
    assert [info.shape for info in trace_layers(model, INPUT)][-2:] == [(6,), (4,)]
    with pytest.warns(UserWarning, match="without running statistics"):
        layer = find_layer(model, "4", INPUT)
    assert layer.shape == (4,)
    image, _ = maco(Objective.neuron(model, "4", 2, input_shape=INPUT), **QUICK)
    assert image.isfinite().all()


def test_a_network_that_takes_no_such_image_says_so_of_one(network):
    with pytest.raises(ValueError, match=r"one image of zeros of shape \(1, 4, 20, 20\).*channels"):
        find_layer(network, "3", (4, 20, 20))


def test_calls_are_counted_once_where_weights_have_several_types():
    model = nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 3).bfloat16(), nn.Identity())
    model.register_parameter("scale", nn.Parameter(torch.ones(1)))  # float32
    assert [info.calls for info in trace_layers(model.eval(), INPUT)] == [1, 1, 1, 1]
