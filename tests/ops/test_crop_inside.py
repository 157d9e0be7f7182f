"""Which samples of a box lie inside the image: the same ones forward, backward, in the reference.

A sample on the border, computed with another rounding, falls outside. Were that so in one direction
alone, the gradient would not be the transpose of the crop.
"""

import pytest
import torch

from fvfast.ops import random_crops
from fvfast.ops.reference.crop import sample_weights

pytestmark = [pytest.mark.compiled, pytest.mark.every_instruction_set]

# Of 31 samples, the tenth after the first lies on pixel 0 of 512; rounded once in place of twice,
# its position is -1.4e-14.
START, STOP, SAMPLES, LENGTH = -0.5, 1.0, 31, 512
AXES = ["rows", "columns"]
FORMATS = [torch.contiguous_format, torch.channels_last]


def along(axis, length):
    """Height and width of what has one row or column."""
    return (length, 1) if axis == "rows" else (1, length)


def boxes_along(axis, start, stop):
    """Boxes (..., 4) that are the whole of the other axis."""
    zero, one = torch.zeros_like(start), torch.ones_like(start)
    ends = (start, zero, stop, one) if axis == "rows" else (zero, start, one, stop)
    return torch.stack(ends, dim=-1)


def inside_of(start, stop, samples, length):
    """What the reference says, (..., samples)."""
    weights = sample_weights(start.double(), stop.double(), samples, length, torch.float64)
    return weights.any(dim=-1)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("axis", AXES)
def test_a_sample_on_the_border(axis, dtype, memory_format):
    """Each channel of an image asks after one sample: three channels are made at a time."""
    count = (SAMPLES + 2) // 3
    start, stop = torch.full((count, 1), START), torch.full((count, 1), STOP)
    boxes = boxes_along(axis, start, stop)
    expected = inside_of(start, stop, SAMPLES, LENGTH)[0, 0]
    assert expected.nonzero().min() == 10

    images = torch.ones(count, 3, *along(axis, LENGTH), dtype=dtype).requires_grad_()
    crops = random_crops(images, boxes, along(axis, SAMPLES), memory_format=memory_format)
    assert torch.equal(crops.flatten(2), expected.to(dtype).expand(count, 3, SAMPLES))

    asked = torch.eye(3 * count, SAMPLES, dtype=dtype).view(crops.shape)
    (gradient,) = torch.autograd.grad(crops, images, asked.contiguous(memory_format=memory_format))
    read = gradient.flatten(2).sum(2).flatten()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(read[:SAMPLES], expected.to(dtype), rtol=eps, atol=0)
    assert not read[SAMPLES:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("axis", "length", "samples"),
    [("columns", 512, 31), ("columns", 97, 13), ("rows", 64, 31), ("rows", 33, 8)],
)
def test_the_gradient_is_the_transpose(axis, length, samples, dtype):
    """Of boxes that end at multiples of 1/8, also beyond the image, where many samples hit borders.

    A crop x and a gradient y have elements of 1 to 2 in magnitude, so that a sample that is inside
    in one direction alone changes one side of <A x, y> = <x, A' y> by 1 or more.
    """
    count = 250
    generator = torch.Generator("cpu").manual_seed(length)
    device = torch.get_default_device()

    def uniform(*shape):
        numbers = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")
        return numbers.to(device)

    start, stop = (uniform(2, count, 1) * 25).floor() / 8 - 1
    boxes = boxes_along(axis, start, stop)
    images = (1 + uniform(count, 1, *along(axis, length))).to(dtype).requires_grad_()
    crops = random_crops(images, boxes.float(), along(axis, samples))
    expected = inside_of(start, stop, samples, length)[:, 0]
    assert 0.2 < expected.double().mean() < 0.8
    assert torch.equal(crops.flatten(1) != 0, expected)

    y = (1 + uniform(*crops.shape)) * (uniform(*crops.shape) - 0.5).sign()
    (gradient,) = torch.autograd.grad(crops, images, y.to(dtype))
    left = (crops.double() * y.to(dtype)).flatten(1).sum(1)
    right = (images.double() * gradient.double()).flatten(1).sum(1)
    # In units of eps / 2 and of the largest pixel, an element of A x has three roundings along each
    # axis, of up to 2 each; a pixel of A' y is the sum of `samples` products at most, with three
    # roundings each along each axis.
    units = 12 + samples + 6
    largest = images.detach().abs().flatten(1).amax(1).double()
    allowed = units * torch.finfo(dtype).eps / 2 * y.abs().flatten(1).sum(1) * largest
    assert allowed.max() < 0.1
    assert ((left - right).abs() <= allowed).all()
