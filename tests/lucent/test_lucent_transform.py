"""Transformations against independent formulas, and what they draw."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from fvfast.lucent.optvis import transform


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 7, 10, dtype=torch.float64)


def bilinear(image, y, x):
    """Value between pixels (H, W), zero outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column]
    return total


@pytest.mark.parametrize("degrees", [0, 10, -35, 90, 180])
@pytest.mark.parametrize("units", ["degrees", "rads", "Radians"])
def test_rotation(degrees, units, images):
    """Counterclockwise about the center, in pixels, also of images that are not square."""
    angle = degrees if units == "degrees" else math.radians(degrees)
    rotated = transform.random_rotate([angle], units=units)(images)
    height, width = images.shape[2:]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for y in range(height):
        for x in range(width):
            down, right = y - (height - 1) / 2, x - (width - 1) / 2
            # Where the pixel was before it was rotated; y points down.
            source_y = sine * right + cosine * down + (height - 1) / 2
            source_x = cosine * right - sine * down + (width - 1) / 2
            expected = bilinear(images[1, 2], source_y, source_x)
            assert rotated[1, 2, y, x].item() == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.24])
def test_scale(factor, images):
    scaled = transform.random_scale([factor])(images)
    height, width = (math.ceil(factor * size) for size in images.shape[2:])
    border = [
        max(0, math.ceil((size - part) / 2))
        for size, part in zip(images.shape[2:], (height, width), strict=True)
    ]
    assert scaled.shape[2:] == (height + 2 * border[0], width + 2 * border[1])
    inner = scaled[:, :, border[0] : border[0] + height, border[1] : border[1] + width]
    for y in range(height):
        for x in range(width):
            # Pixels at the corners stay at the corners.
            expected = bilinear(images[0, 1], y * 6 / (height - 1), x * 9 / (width - 1))
            assert inner[0, 1, y, x].item() == pytest.approx(float(expected), abs=1e-9)
    assert scaled.sum().item() == pytest.approx(inner.sum().item())


def test_jitter(images):
    """All shifts are drawn, down and to the right, and zeros come in."""
    shifted = transform.jitter(3)
    expected = {}
    for down in range(3):
        for right in range(3):
            moved = torch.zeros_like(images)
            moved[:, :, down:, right:] = images[:, :, : 7 - down, : 10 - right]
            expected[down, right] = moved
    seen = set()
    for _ in range(200):
        result = shifted(images)
        seen |= {shift for shift, moved in expected.items() if torch.equal(result, moved)}
    assert seen == set(expected)


def test_jitter_beyond_the_image():
    images = torch.ones(1, 1, 2, 2)
    sums = {float(transform.jitter(50)(images).sum()) for _ in range(100)}
    assert min(sums) == 0
    assert transform.jitter(50)(images).shape == images.shape


def test_pad(images):
    constant = transform.pad(2, mode="constant", constant_value=0.25)(images)
    assert constant.shape == (2, 3, 11, 14)
    assert (constant[:, :, 2:-2, 2:-2] == images).all()
    assert constant[0, 0, 0, 0] == 0.25
    reflected = transform.pad(3)(images)
    assert (reflected[:, :, 3, 0] == images[:, :, 0, 3]).all()


def test_normalize(images):
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(transform.normalize()(images), (images - mean) / std)
    torch.testing.assert_close(transform.preprocess_inceptionv1()(images), images * 255 - 117)


def test_normalize_rounds_as_torchvision_does():
    """To the last bit: rounding that differs switches ReLUs, and grows over the steps of a run."""
    transforms = pytest.importorskip("torchvision.transforms")
    images = torch.rand(2, 3, 50, 50)
    theirs = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    assert torch.equal(transform.normalize()(images), theirs(images))


@pytest.mark.parametrize(
    "function",
    [
        transform.jitter(3), transform.pad(2), transform.random_scale([0.8]),
        transform.random_rotate([20]), transform.normalize(),
    ],
)  # fmt: skip
def test_gradients(function, images):
    def fixed(one):
        torch.manual_seed(3)
        return function(one)

    assert gradcheck(fixed, images[:1, :, :4, :5].clone().requires_grad_())


def test_composition(images):
    twice = transform.compose([lambda x: x + 1, lambda x: 2 * x])
    torch.testing.assert_close(twice(images), 2 * (images + 1))
    assert transform.compose([])(images) is images


def test_a_seed_decides_what_is_drawn(images):
    """torch's alone, on the CPU: Lucent draws from numpy's generator, too."""
    chain = transform.compose(transform.standard_transforms)

    def draw(seed):
        torch.manual_seed(seed)
        return [chain(images) for _ in range(3)]

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=True)
    )
    assert not torch.equal(first[0], first[1])


def test_all_choices_are_drawn(images):
    shapes = {transform.random_scale([1, 2, 3])(images).shape[2] for _ in range(60)}
    assert shapes == {7, 14, 21}


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: transform.jitter(1), ValueError, "jitter: d must be at least 2, got 1"),
        (lambda: transform.jitter(2.5), TypeError, "jitter: d must be an integer"),
        (lambda: transform.pad(-1), ValueError, "pad: w must be at least 0"),
        (lambda: transform.pad(1, "mirror"), ValueError, "pad: mode is 'mirror'; expected one of"),
        (lambda: transform.random_scale([]), ValueError, "random_scale: scales must be a list"),
        (lambda: transform.random_scale([1, 0]), ValueError, "must be positive, got 0"),
        (
            lambda: transform.random_rotate(["a"]),
            ValueError,
            "random_rotate: angles must be a list",
        ),
        (lambda: transform.random_rotate([1], "turns"), ValueError, "units is 'turns'"),
        (lambda: transform.compose([1]), TypeError, "1 is not a function of images"),
    ],
)
def test_wrong_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_images_that_do_not_fit(images):
    with pytest.raises(ValueError, match="border of 7 pixels cannot be reflected in images of 7 x"):
        transform.pad(7)(images)
    with pytest.raises(ValueError, match=r"images have 1 channels.*preprocess=False"):
        transform.normalize()(images[:, :1])
