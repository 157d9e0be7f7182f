"""The gradient of cropping on CUDA devices with clusters of blocks and without, which deal the work
on a tile to different numbers of parts."""

import pytest
import torch
from emulated import ORDERS, compute_capability, emulated
from selection import thorough

from fvfast.ops import random_crops
from fvfast.ops._kernels import kernels_for
from fvfast.ops.reference.crop import crop_gradient_reference

WITH_CLUSTERS, WITHOUT = 90, 80  # compute capabilities
# Of some of these, all columns lie in one tile, which makes many strips; others reach every tile.
BOXES = torch.tensor(
    [
        [0.4, 0.4, 0.5, 0.5],
        [0.0, 0.0, 1.0, 1.0],
        [0.42, 0.45, 0.48, 0.52],
        [0.9, 0.8, 0.2, 0.1],  # reversed: flipped
        [-0.3, -0.1, 0.4, 0.6],  # partly outside
        [1.2, 1.3, 1.5, 1.6],  # wholly outside
        [0.5, 0.5, 0.5, 0.5],  # a point
    ]
)
SIZE, CROP = (20, 131), (33, 200)


@pytest.fixture(params=[WITH_CLUSTERS, WITHOUT], ids="sm_{}".format)
def capability(request, backend):
    """The emulated device's; a real device, and the CPU, have their own."""
    if backend not in ORDERS:
        if request.param == WITHOUT:
            pytest.skip("only an emulated device can be told what it is")
        yield None
        return
    with compute_capability(request.param):
        yield request.param


def random(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def boxes_of(images, crops):
    """Different boxes for each image."""
    many = BOXES.repeat(-(-images * crops // len(BOXES)), 1)[: images * crops]
    return many.to(torch.get_default_device()).unflatten(0, (images, crops))


def gradient_of(incoming, boxes, dtype=torch.float32, transparency=None, size=SIZE):
    return torch.ops.fvfast.crop_gradient(incoming, boxes, *size, dtype, transparency, None, None)


@pytest.mark.usefixtures("capability")
@pytest.mark.parametrize(
    ("crops", "channels", "dtype", "memory_format"),
    [
        (1, 3, torch.float32, torch.contiguous_format),
        (2, 1, torch.float32, torch.contiguous_format),
        (3, 3, torch.bfloat16, torch.channels_last),
        (5, 4, torch.float32, torch.channels_last),
        (9, 3, torch.float32, torch.channels_last),
        thorough(9, 4, torch.float16, torch.channels_last),
        thorough(17, 2, torch.bfloat16, torch.contiguous_format),
        thorough(17, 3, torch.float64, torch.contiguous_format),
        (40, 3, torch.float16, torch.contiguous_format),  # two looks at boxes
    ],
)
def test_agrees_with_the_reference(crops, channels, dtype, memory_format):
    boxes = boxes_of(2, crops)
    incoming = random(2 * crops, channels, *CROP, dtype=dtype)
    incoming = incoming.contiguous(memory_format=memory_format)
    transparency = torch.zeros(2, channels, *SIZE)
    gradient = gradient_of(incoming, boxes, torch.float32, transparency)
    grouped = incoming.unflatten(0, boxes.shape[:2])
    exact = crop_gradient_reference(grouped.double(), boxes, SIZE, torch.float64)
    # Twice the error of the reference in float32, and a rounding of the largest sum of terms.
    rough = crop_gradient_reference(grouped, boxes, SIZE, torch.float32)
    terms = crop_gradient_reference(grouped.double().abs(), boxes, SIZE, torch.float64)
    allowed = 2 * (rough - exact).abs().max() + torch.finfo(torch.float32).eps * terms.max()
    assert (gradient - exact).abs().max() <= allowed
    assert torch.equal(transparency, gradient.abs())


@pytest.mark.usefixtures("capability")
@pytest.mark.parametrize("crops", [3, 12])
def test_is_the_adjoint_of_cropping(crops):
    images, boxes = random(1, 3, *SIZE), boxes_of(1, crops)
    incoming = random(crops, 3, *CROP, seed=1)
    forward = (random_crops(images, boxes, CROP, dtype=torch.float64) * incoming).sum()
    backward = (images * gradient_of(incoming, boxes, torch.float64)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=1e-9)


@pytest.mark.usefixtures("capability")
def test_boxes_that_reach_nothing_give_zeros():
    boxes = torch.tensor([[[1.2, 1.3, 1.5, 1.6]] * 9])
    incoming, transparency = random(9, 3, *CROP, dtype=torch.float32), torch.zeros(1, 3, *SIZE)
    gradient = gradient_of(incoming, boxes, torch.float32, transparency)
    assert gradient.shape == (1, 3, *SIZE)
    assert not gradient.any()
    assert not transparency.any()


def test_only_devices_without_clusters_need_scratch_memory(capability):
    if capability is None:
        pytest.skip("a real device, or the CPU")
    kernels = kernels_for(torch.device("cpu"))
    scratch = kernels.module.crop_gradient_scratch(
        image_dtype="float32", sizes=(1, 9, 3, *SIZE, *CROP), target=kernels.target
    )
    parts = {WITH_CLUSTERS: 0, WITHOUT: 4}[capability]
    assert scratch == parts * 3 * SIZE[0] * SIZE[1] * 4


def test_the_order_of_threads_and_blocks_changes_no_bit(backend, capability):
    if capability is None or backend != "emulated random":
        pytest.skip("once, on the emulated devices")
    boxes, incoming = boxes_of(1, 9), random(9, 3, *CROP, dtype=torch.float32)
    results = []
    for order in ORDERS:
        with emulated(order):
            results.append(gradient_of(incoming, boxes))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.thorough
@pytest.mark.usefixtures("capability")
def test_images_of_many_tiles_equal_one_alone():
    """A batch of so many tiles that a block has all parts of one, even where there are clusters."""
    channels, size = 8200, (1, 2)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.9, 0.6]]).repeat(2, 1, 1)
    incoming = random(4, channels, 1, 3, dtype=torch.float32)
    together = gradient_of(incoming, boxes, size=size)
    alone = gradient_of(incoming[:2], boxes[:1], size=size)
    assert together.any()
    assert torch.equal(together[:1], alone)
