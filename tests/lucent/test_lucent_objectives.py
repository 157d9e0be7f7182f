"""Objectives against their formulas in float64, with gradients, and their arithmetic."""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from fvfast.lucent.optvis import objectives as o

N, C, H, W = 3, 4, 5, 6


@pytest.fixture
def activations():
    torch.manual_seed(0)
    return torch.randn(N, C, H, W, dtype=torch.float64)


@pytest.fixture
def vector():
    torch.manual_seed(1)
    return torch.randn(C, dtype=torch.float64)


def value(objective, activations, images=None):
    """Loss of an objective whose layers all put out the same."""
    return objective(lambda layer: images if layer == "input" else activations)


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


def pixels(tensor):
    """All positions (n, y, x)."""
    return [(n, y, x) for n in range(len(tensor)) for y in range(H) for x in range(W)]


def gram_cosines(a):
    """Sum of the cosines of the Gram matrices of each two images, in either order."""
    grams = [one.flatten(1) @ one.flatten(1).T for one in a]
    return sum(cosine(g, h) for i, g in enumerate(grams) for j, h in enumerate(grams) if i != j)


def aligned(a, ratio):
    return sum(
        ((a[i] - a[j]) ** 2).mean() / ratio ** (j - i)
        for i in range(N)
        for j in range(i + 1, min(N, i + 5))
    )


FORMULAS = {
    "channel": (lambda _: o.channel("a", 2), lambda a, _: -sum(a[:, 2].flatten()) / (N * H * W)),
    "channel of one image": (
        lambda _: o.channel("a", 2, batch=1),
        lambda a, _: -sum(a[1, 2].flatten()) / (H * W),
    ),
    "the last channel": (lambda _: o.channel("a", -1), lambda a, _: -a[:, C - 1].mean()),
    "neuron": (lambda _: o.neuron("a", 1), lambda a, _: -sum(a[n, 1, 2, 3] for n in range(N)) / N),
    "neuron at a position": (
        lambda _: o.neuron("a", 1, x=4, y=0, batch=2),
        lambda a, _: -a[2, 1, 0, 4],
    ),
    "neuron_weight": (
        lambda v: o.neuron_weight("a", v),
        lambda a, v: -sum(a[n, c, 2, 3] * v[c] for n in range(N) for c in range(C)) / (N * C),
    ),
    "neuron_weight without": (
        lambda _: o.neuron_weight("a", None, x=5, y=4),
        lambda a, _: -a[:, :, 4, 5].mean(),
    ),
    "channel_weight": (
        lambda v: o.channel_weight("a", v),
        lambda a, v: -sum(a[n, :, y, x] @ v for n, y, x in pixels(a)) / (N * C * H * W),
    ),
    "localgroup_weight": (
        lambda v: o.localgroup_weight("a", v, x=1, y=2, wx=3, wy=2),
        lambda a, v: (
            -sum(a[n, :, y, x] @ v for n in range(N) for y in (2, 3) for x in (1, 2, 3))
            / (N * C * 6)
        ),
    ),
    "direction": (
        lambda v: o.direction("a", v),
        lambda a, v: -sum(cosine(a[n, :, y, x], v) for n, y, x in pixels(a)) / (N * H * W),
    ),
    "direction_neuron": (
        lambda v: o.direction_neuron("a", v, batch=0),
        lambda a, v: -cosine(a[0, :, 2, 3], v),
    ),
    "channel_interpolate": (
        lambda _: o.channel_interpolate("a", 1, "a", 3),
        lambda a, _: (
            -sum(
                (1 - n / (N - 1)) * a[n, 1].mean() + n / (N - 1) * a[n, 3].mean() for n in range(N)
            )
        ),
    ),
    "alignment": (lambda _: o.alignment("a"), lambda a, _: aligned(a, 2.0)),
    "alignment with a ratio": (
        lambda _: o.alignment("a", decay_ratio=3),
        lambda a, _: aligned(a, 3.0),
    ),
    "diversity": (lambda _: o.diversity("a"), lambda a, _: -gram_cosines(a) / N),
    "arithmetic": (
        lambda _: 3 - (2 * o.channel("a", 0) - o.channel("a", 1) / 4) + -o.neuron("a", 2),
        lambda a, _: 3 + 2 * a[:, 0].mean() - a[:, 1].mean() / 4 + a[:, 2, 2, 3].mean(),
    ),
    "sum": (
        lambda _: o.Objective.sum([o.channel("a", n, batch=n) for n in range(N)]),
        lambda a, _: -sum(a[n, n].mean() for n in range(N)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name, activations, vector):
    make, formula = FORMULAS[name]
    objective = make(vector)
    expected = formula(activations, vector)
    # Sums of some hundred numbers in float64, in another order.
    torch.testing.assert_close(value(objective, activations), expected, rtol=1e-12, atol=1e-14)
    assert expected.abs() > 1e-4
    assert gradcheck(lambda a: value(objective, a), activations.requires_grad_())


@pytest.mark.parametrize("shape", [(N, C), (N, C, 7)])
def test_layers_without_height_and_width(shape, vector):
    activations = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(value(o.channel("a", 1), activations), -activations[:, 1].mean())
    means = activations.reshape(N, C, -1).mean(2)
    expected = -(means[0, 1] + (means[1, 1] + means[1, 3]) / 2 + means[2, 3])
    interpolated = value(o.channel_interpolate("a", 1, "a", 3), activations)
    torch.testing.assert_close(interpolated, expected)
    cosines = [cosine(one, vector) for one in activations.movedim(1, -1).reshape(-1, C)]
    expected = -sum(cosines) / len(cosines)
    torch.testing.assert_close(value(o.direction("a", vector), activations), expected)


def test_alignment_of_distant_images():
    """Images five apart are left alone."""
    images = torch.zeros(7, 1, 1, 1)
    images[0], images[-1] = 1, 5
    pairs = [(i, j) for i in range(7) for j in range(i + 1, 7) if j - i <= 4]
    expected = sum(float((images[i] - images[j]) ** 2) / 2 ** (j - i) for i, j in pairs)
    assert value(o.alignment("a"), images).item() == pytest.approx(expected)


def test_alignment_of_one_image():
    assert value(o.alignment("a"), torch.ones(1, 2, 3, 3)).item() == 0


def test_blur(activations):
    images = activations.requires_grad_()
    loss = value(o.blur_input_each_step(), None, images)
    blurred = torch.zeros_like(images)
    for n, y, x in pixels(images):
        total = weights = 0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if 0 <= y + dy < H and 0 <= x + dx < W:
                    weight = 1 if dy == dx == 0 else 0.5
                    total = total + weight * images[n, :, y + dy, x + dx].detach()
                    weights += weight
        blurred[n, :, y, x] = total / weights
    torch.testing.assert_close(loss, -0.5 * ((images - blurred) ** 2).sum())
    (gradient,) = torch.autograd.grad(loss, images)
    # A step of size 1 down -1 times the objective replaces the images by blurred ones.
    torch.testing.assert_close(images + gradient, blurred)


def test_names_and_descriptions():
    """As Lucent prints them."""
    channel = o.channel("mixed4a", 476)
    assert (channel.name, channel.description) == ("channel", "Channel [mixed4a, 476, None]")
    both = channel + o.direction("mixed4a", torch.rand(9))
    assert both.name == "channel, direction"
    assert both.description == (
        "Sum(Channel [mixed4a, 476, None] +\nDirection [mixed4a, ..., None])"
    )
    assert (2 * channel - 1).description == channel.description


def test_sums_of_many_weighted_channels(activations):
    """As scripts add them up, with weights from numpy or a tensor's item."""
    weights = np.array([0.5, -1.5, 2.0, 0.25])
    for numbers in (weights, weights.astype(np.float32), weights.tolist()):
        objective = sum(numbers[c] * o.channel("a", c) for c in range(C))
        expected = -sum(float(weights[c]) * activations[:, c].mean() for c in range(C))
        torch.testing.assert_close(value(objective, activations), expected)


def test_plain_functions_are_terms(activations):
    def loudest(T):
        return -T("a").max()

    expected = -activations.max() - activations[:, 0].mean() + activations.max() / 2
    objective = o.as_objective(loudest) + o.channel("a", 0) - 0.5 * o.as_objective(loudest)
    torch.testing.assert_close(value(objective, activations), expected)
    torch.testing.assert_close(
        value(o.channel("a", 0) + loudest, activations),
        -activations.max() - activations[:, 0].mean(),
    )


@pytest.mark.parametrize(
    ("text", "layer", "channel"),
    [("mixed4a:2", "mixed4a", 2), (" layer4.2 : 0", "layer4.2", 0), ("a:-1", "a", -1)],
)
def test_texts(text, layer, channel, activations):
    asked = []

    def features(name):
        asked.append(name)
        return activations

    loss = o.as_objective(text)(features)
    assert asked == [layer]
    torch.testing.assert_close(loss, -activations[:, channel].mean())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: o.as_objective("mixed4a"), ValueError, "name of a layer, a colon and the index"),
        (lambda: o.as_objective(":3"), ValueError, "such as 'layer4_2:10'"),
        (lambda: o.as_objective("a:b"), ValueError, "'a:b'"),
        (lambda: o.as_objective(7), TypeError, "a text 'layer:channel'"),
        (
            lambda: o.channel("a", 1) * o.channel("a", 2),
            TypeError,
            "multiplied by an int or a float",
        ),
        (lambda: o.channel("a", 1) / o.channel("a", 2), TypeError, "divided by an int or a float"),
        (lambda: o.channel("a", 1) + "a:2", TypeError, "unsupported operand"),
        (lambda: o.Objective.sum([]), ValueError, "at least one objective"),
        (lambda: o.Objective.sum(["a:1"]), TypeError, "an objective or a function of T"),
        (lambda: o.Objective(3), TypeError, "a function of T"),
        (lambda: o.direction("a", "up"), TypeError, "direction must be a tensor"),
        (lambda: o.channel("a"), TypeError, "n_channel"),
    ],
)
def test_wrong_objectives(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (o.channel("a", C), r"layer 'a' with an output of \(4, 5, 6\): index 4 is out of range"),
        (o.channel("a", 0, batch=N), "batch, of the images of layer 'a': index 3"),
        (o.neuron("a", 0, x=W), "x, of layer 'a': index 6"),
        (o.neuron("a", 0, y=H), "y, of layer 'a': index 5"),
        (
            o.channel_weight("a", torch.ones(3)),
            "weight has 3 numbers, and layer 'a' has 4 channels",
        ),
        (o.direction("a", torch.ones(5)), "direction has 5 numbers"),
    ],
)
def test_units_that_are_not_there(objective, words, activations):
    with pytest.raises(ValueError, match=words):
        value(objective, activations)


def test_layers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shape \(3, 4\), which has no height and width"):
        value(o.neuron("a", 0), torch.ones(3, 4))
    with pytest.raises(TypeError, match="puts out a tuple, not a tensor"):
        value(o.channel("a", 0), (torch.ones(3, 4),))
    with pytest.raises(ValueError, match="channel_interpolate: expected 2 images or more, got 1"):
        value(o.channel_interpolate("a", 0, "a", 1), torch.ones(1, 4, 2, 2))


def test_a_direction_of_any_scale_and_type(activations):
    small = o.direction("a", [1, 0, 0, 0])
    large = o.direction("a", torch.tensor([1e3, 0, 0, 0]))
    torch.testing.assert_close(value(small, activations), value(large, activations))
    assert math.isfinite(value(small, torch.zeros_like(activations)))
