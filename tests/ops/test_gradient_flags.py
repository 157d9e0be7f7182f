"""What the gradient of cropping tells of each image besides itself, and which images it counts."""

import math

import pytest
import torch
from ops.tables import normal

from fvfast.ops.gradient_flags import (
    GRADIENT_NOT_FINITE,
    GRADIENT_NOT_ZERO,
    add_gradient_flags,
    may_be_updated,
)

SIZE = (20, 70)  # several tiles
BOTH = GRADIENT_NOT_FINITE | GRADIENT_NOT_ZERO


def taken_back(gradient, boxes, dtype, *noted):
    return torch.ops.fvfast.crop_gradient(gradient, boxes, *SIZE, dtype, *noted)


def spoiled(crops, channels, dtype):
    """Crops of five images: none is lit, one pixel, all, one is infinite, one is no number."""
    gradient = torch.zeros(5, crops, channels, 9, 9, dtype=dtype)
    gradient[1, -1, -1, 4, 4] = 1e-3
    gradient[2:] = normal(3, crops, channels, 9, 9, dtype=dtype)
    gradient[3, 0, 0, 3, 3] = math.inf
    gradient[4, -1, -1, 5, 5] = math.nan
    # The whole image: no pixel of a crop is left out.
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(5, crops, 4).contiguous()
    return gradient.flatten(0, 1), boxes


# One block has a tile, blocks have parts of it, and clusters where the device has them.
@pytest.mark.compiled
@pytest.mark.parametrize("crops", [1, 3, 9])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_flags_say_what_the_gradient_is(crops, channels, dtype):
    gradient, boxes = spoiled(crops, channels, dtype)
    flags = torch.tensor([0, 0, GRADIENT_NOT_FINITE, 0, 0], dtype=torch.int32)
    found = taken_back(gradient, boxes, dtype, None, None, flags)
    plain = taken_back(gradient, boxes, dtype, None, None, None)
    torch.testing.assert_close(found, plain, rtol=0, atol=0, equal_nan=True)
    # Flags that were there stay.
    assert flags.tolist() == [0, GRADIENT_NOT_ZERO, BOTH, BOTH, BOTH]


@pytest.mark.compiled
@pytest.mark.parametrize("crops", [1, 3, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_images_that_have_ended_add_nothing_to_their_transparency(crops, dtype):
    gradient, boxes = spoiled(crops, 3, dtype)
    running = torch.tensor([True, True, False, True, False])
    before = normal(5, 3, *SIZE, seed=1, dtype=dtype)
    whole, part = before.clone(), before.clone()
    taken_back(gradient, boxes, dtype, whole, None, None)
    taken_back(gradient, boxes, dtype, part, running, torch.zeros(5, dtype=torch.int32))
    assert whole.isfinite().all()
    assert torch.equal(part[running], whole[running])
    assert torch.equal(part[~running], before[~running])
    assert not torch.equal(part[3], before[3])


def test_memory_with_gaps():
    gradient, boxes = spoiled(3, 3, torch.float32)
    flags = torch.zeros(10, dtype=torch.int32)[::2]
    running = torch.ones(10, dtype=torch.bool)[::2]
    transparency = torch.zeros(5, 3, *SIZE)
    found = taken_back(gradient, boxes, torch.float32, transparency, running, flags)
    assert flags.tolist() == [0, GRADIENT_NOT_ZERO, GRADIENT_NOT_ZERO, BOTH, BOTH]
    assert torch.equal(transparency, found.abs().nan_to_num(0, 0, 0))


def test_no_crops_are_a_gradient_of_zero():
    flags = torch.zeros(2, dtype=torch.int32)
    gradient, boxes = torch.zeros(0, 3, 9, 9), torch.zeros(2, 0, 4)
    found = taken_back(gradient, boxes, torch.float32, None, torch.tensor([True, False]), flags)
    assert found.count_nonzero() == 0
    assert flags.tolist() == [0, 0]


def test_opcheck():
    gradient, boxes = spoiled(2, 3, torch.float32)
    gradient = gradient.nan_to_num()
    noted = (torch.zeros(5, 3, *SIZE), torch.tensor([True] * 5), torch.zeros(5, dtype=torch.int32))
    arguments = (gradient, boxes, *SIZE, torch.float32, *noted)
    torch.library.opcheck(torch.ops.fvfast.crop_gradient.default, arguments)


@pytest.mark.cpu_only
def test_flags_in_pytorch():
    flags = torch.tensor([0, GRADIENT_NOT_ZERO, 0, 0], dtype=torch.int32)
    gradient = torch.tensor([[[0.0, -0.0]], [[0, 0]], [[0, math.inf]], [[0, math.nan]]])
    add_gradient_flags(flags, gradient)
    assert flags.tolist() == [0, GRADIENT_NOT_ZERO, BOTH, BOTH]
    running = torch.tensor([True, True, True, False])
    scores = torch.tensor([0.0, math.nan, 1.0, 1.0])
    assert may_be_updated(running, scores, flags).tolist() == [True, False, False, False]
    assert may_be_updated(running, -scores, flags * 0).tolist() == [True, False, True, False]
