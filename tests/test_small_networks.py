"""Networks with small inputs: what people train first, and draw first."""

import warnings

import pytest
import torch
from selection import thorough
from torch import nn

from benchmarks.digit_networks import accuracy, convolutions, perceptron, trained
from benchmarks.digit_networks import digits as all_digits
from fvfast import Linear, Objective, maco, maco_batch
from fvfast.transformations import resize
from fvfast.transformations.reduction import resize_whole


def averaged():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


# How many of its ten digits a network has to recognize. Measured for two networks of each kind:
# 10, 8, and 6 to 7. Dots, which most pixels do not count for, give 2 to 4 with the last kind.
NETWORKS = [(convolutions, 9), (perceptron, 7), thorough((averaged, 5))]


@pytest.fixture(scope="module", params=NETWORKS)
def digits(request):
    """A network that tells scikit-learn's 1,797 handwritten digits of 8 x 8 pixels apart."""
    make, least = request.param
    images, labels = all_digits()
    network = trained(make, images, labels)
    assert accuracy(network, images, labels) > 0.97
    return network, least


@pytest.mark.parametrize(("settings", "side"), [({}, 16), ({"custom_shape": 64}, 64)])
def test_the_network_recognizes_its_own_digits(digits, settings, side):
    """In the mean of the pixels, as people see it, whatever the size."""
    network, least = digits
    objective = Objective.neuron(network, -1, list(range(10)), input_shape=(1, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = maco_batch(
            objective, preset="small", values_range=(0, 1), progress=False, **settings
        )
    assert drawn.images.shape == (10, 1, side, side)
    recognized = network(nn.functional.avg_pool2d(drawn.images, side // 8)).argmax(1)
    assert (recognized == torch.arange(10)).sum() >= least


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (4, 9)])
@pytest.mark.parametrize("shape", [(16, 16), (17, 15), (64, 64), (30, 9), (8, 40), (6, 4)])
def test_every_pixel_of_the_whole_image_counts(shape, size):
    """As bilinear resizing up to twice the size; beyond, as the mean over the area of a pixel."""
    images = torch.rand(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    views = resize_whole(images, size)
    if shape[0] <= 2 * size[0] and shape[1] <= 2 * size[1]:
        assert torch.equal(views, resize(images, size))
        return
    expected = images
    for axis, (length, count) in enumerate(zip(shape, size, strict=True)):
        if length > 2 * count:
            # With each pixel as a row of so many that areas cut none.
            fine = expected.repeat_interleave(count, 2 + axis)
            expected = nn.functional.avg_pool2d(fine, (length, 1) if axis == 0 else (1, length))
        else:
            other = expected.shape[3 - axis]
            expected = resize(expected, (count, other) if axis == 0 else (other, count))
    torch.testing.assert_close(views, expected)
    (gradient,) = torch.autograd.grad(views.sum(), images)
    assert (gradient > 0).all()


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
