"""Every kernel on a grid as small as can be, for sanitizers to which each thread is a burden."""

import pytest
import torch
from emulated import ORDERS, compute_capability

from fvfast.ops import inject_noise, phase_to_image, phase_update_, pyramid_to_image, random_crops
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.ops.convolution_epilogue import convolution_epilogue_
from fvfast.ops.gradient_flags import GRADIENT_NOT_ZERO
from fvfast.ops.nadam import nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.phase_step import new_sums, phase_step_
from fvfast.ops.reference.convolution_epilogue import convolution_epilogue_reference
from fvfast.ops.reference.crop import crop_gradient_reference, random_crops_reference
from fvfast.ops.reference.noise import inject_noise_reference
from fvfast.ops.reference.phase import phase_to_image_reference
from fvfast.ops.reference.pyramid import pyramid_to_image_reference
from fvfast.ops.step_end import NextBoxes
from fvfast.run.step_record import StepRecord

RANGE = (-1.0, 2.0)
KEY = {"seed": 5, "identities": [3], "step": 7}


def normal(*shape, seed=0):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu")
    return numbers.to(torch.get_default_device())


def magnitude_and_phase(height=16, width=20):
    half = (3, height, width // 2 + 1)
    return normal(*half).abs() + 0.1, normal(1, *half, seed=1)


def phase_and_more(height=16, width=20):
    """Return magnitude, phase, and a rendered image."""
    magnitude, phase = magnitude_and_phase(height, width)
    flat = phase.double().flatten(1)
    sums = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)[:, None]
    return magnitude, phase, render_phase(magnitude, phase, RANGE, width, phase_sums=sums)


# Transforms in shared memory, by torch, and of columns or rows in registers.
SIZES = [(16, 20), (7, 11), (128, 4), (2, 128)]


@pytest.mark.compiled
@pytest.mark.parametrize("size", SIZES)
def test_phase_to_image(size):
    magnitude, phase, rendered = phase_and_more(*size)
    expected = phase_to_image_reference(magnitude, phase, *RANGE, size[1])
    torch.testing.assert_close(rendered.image, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_gradient_of_the_phase(size):
    """With the sums of the phase, which nobody hands in."""
    magnitude, phase = magnitude_and_phase(*size)
    cotangent, results = normal(1, 3, *size, seed=2), []
    for function in (phase_to_image, phase_to_image_reference):
        given = phase.clone().requires_grad_()
        values_range = (RANGE,) if function is phase_to_image else RANGE
        image = function(magnitude, given, *values_range, size[1])
        results.append(torch.autograd.grad(image, given, cotangent))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_boxes_and_crops(memory_format):
    images = normal(1, 3, 12, 12)
    boxes = draw_boxes(0.5, 2, seed=5, identities=[3], step=7, device=images.device)
    crops = random_crops(images, boxes, 8, std=0.5, memory_format=memory_format, **KEY)
    noise = {"std": 0.5, "uniform_width": 0.5, **KEY}
    expected = random_crops_reference(images, boxes, (8, 8), dtype=torch.float32, **noise)
    torch.testing.assert_close(crops, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.compiled
def test_boxes_and_crops_of_tables():
    """All threads read the same row, and nobody writes there."""
    images, numbers = normal(1, 3, 12, 12), torch.tensor([0.3, 0.5], dtype=torch.float64)
    key = {"seed": 5, "identities": torch.tensor([3]), "step": torch.tensor(7)}
    boxes = draw_boxes(numbers, 2, device=images.device, **key)
    assert torch.equal(boxes, draw_boxes(0.5, 2, device=images.device, **KEY))
    crops = random_crops(images, boxes, 8, std=numbers, **key)
    assert torch.equal(crops, random_crops(images, boxes, 8, std=0.5, **KEY))


@pytest.mark.compiled
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_crop_gradient(memory_format):
    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.9], [-0.2, 0.3, 0.4, 1.2]]])
    gradient, transparency = normal(2, 3, 8, 8), torch.zeros(1, 3, 12, 12)
    expected = crop_gradient_reference(gradient.unflatten(0, (1, 2)), boxes, (12, 12))
    incoming = gradient.contiguous(memory_format=memory_format)
    flags = torch.zeros(1, dtype=torch.int32)
    actual = torch.ops.fvfast.crop_gradient(
        incoming, boxes, 12, 12, torch.float32, transparency, torch.tensor([True]), flags
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(transparency, actual.abs())
    assert flags.item() == GRADIENT_NOT_ZERO


# One block has a tile: the only part of it, or one part after the other. Blocks leave parts that
# another kernel adds up. A cluster adds up its own, of one look at the boxes and of two.
@pytest.mark.parametrize(("capability", "crops"), [(90, 1), (80, 2), (80, 8), (90, 9), (90, 33)])
def test_crop_gradient_of_devices(capability, crops, backend):
    if backend not in ORDERS:
        pytest.skip("only an emulated device can be told what it is")
    boxes = torch.tensor([0.1, 0.2, 0.7, 0.9]) + 0.02 * normal(2, crops, 4)
    gradient, before = normal(2 * crops, 3, 8, 8, seed=1), normal(2, 3, 12, 12, seed=2)
    expected = crop_gradient_reference(gradient.unflatten(0, (2, crops)), boxes, (12, 12))
    transparency, flags = before.clone(), torch.zeros(2, dtype=torch.int32)
    running = torch.tensor([True, False])
    with compute_capability(capability):
        actual = torch.ops.fvfast.crop_gradient(
            gradient, boxes, 12, 12, torch.float32, transparency, running, flags
        )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(transparency[0], before[0] + actual[0].abs())
    assert torch.equal(transparency[1], before[1])
    assert flags.tolist() == [GRADIENT_NOT_ZERO] * 2


@pytest.mark.compiled
@pytest.mark.parametrize("score", [1.0, float("nan")])
def test_the_end_of_a_step(score):
    """An image that goes on, or keeps its phase; and one whose update is taken back."""
    magnitude, phase, rendered = phase_and_more()
    averages, sums = (torch.zeros_like(phase), torch.ones_like(phase)), new_sums(phase)
    record, flags = StepRecord(1, phase.device), torch.zeros(1, dtype=torch.int32)
    record.make_room()
    scores, next_phase = torch.tensor([score]), phase.clone()
    gate = {"scores": scores, "flags": flags, "running": record.running}
    numbers = {"step": torch.tensor(1), "rates": nadam_table(3).to(phase.device)}
    phase_step_(
        normal(1, 3, 16, 20), rendered, magnitude, phase, next_phase, *averages, RANGE, sums=sums,
        **numbers, **gate,
    )  # fmt: skip
    assert torch.equal(next_phase, phase) == (score != score)
    identities, sides = torch.tensor([3]), torch.tensor([0.5], dtype=torch.float64)
    boxes = NextBoxes(torch.zeros(1, 2, 4), sides, identities, 5, BoxDistribution())
    record.step.fill_(6)
    sums[0, 0, 1] = float("inf")
    record.end_step(scores, flags, phase, next_phase, sums, boxes)
    assert torch.equal(boxes.boxes, draw_boxes(0.5, 2, device=phase.device, **KEY))
    assert torch.equal(next_phase, phase)
    assert record.ended_in.item() == 6
    assert record.by_update.item() == (score == score)


@pytest.mark.parametrize("size", [(20, 70), (1, 5)])
def test_pyramid(size):
    """Two tiles down and across, so that parts are added up; and a single one."""
    elements, levels = {(20, 70): (1883, 8), (1, 5): (11, 4)}[size]
    pyramid, cotangent = normal(1, 3, elements) / 3, normal(1, 3, *size, seed=1)
    results = []
    for function in (
        lambda given: pyramid_to_image(given, size, RANGE),
        lambda given: pyramid_to_image_reference(given, size, levels, *RANGE, 1.0),
    ):
        given = pyramid.clone().requires_grad_()
        image = function(given)
        results.append((image.detach(), *torch.autograd.grad(image, given, cotangent)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_noise():
    images = normal(1, 3, 5, 7)
    expected = inject_noise_reference(images, 0.5, uniform_width=0.5, **KEY)
    torch.testing.assert_close(inject_noise(images, 0.5, **KEY), expected, rtol=1e-4, atol=1e-5)
    key = {"seed": 5, "identities": torch.tensor([3]), "step": torch.tensor(7)}
    numbers = torch.tensor([0.3, 0.5], dtype=torch.float64)
    assert torch.equal(inject_noise(images, numbers, **key), inject_noise(images, 0.5, **KEY))


@pytest.mark.compiled
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("channels", "dtype"), [(5, torch.float32), (8, torch.float32), (8, torch.bfloat16)], ids=str
)
def test_convolution_epilogue(channels, dtype, memory_format):
    """Numbers one by one, and in packs; packs of biases too."""
    output, term = (
        normal(1, channels, 3, 7, seed=seed).to(dtype, memory_format=memory_format)
        for seed in (0, 1)
    )
    bias, limits = normal(channels, seed=2).to(dtype), (0.0, 6.0)
    expected = convolution_epilogue_reference(output, bias, term, limits)
    convolution_epilogue_(output, bias, term=term, limits=limits)
    assert torch.equal(output, expected)


@pytest.mark.parametrize("size", [(16, 20), (7, 11)])
def test_ascent(size):
    """An update that finishes the gradient, and one of a complete gradient."""
    magnitude, phase, rendered = phase_and_more(*size)
    before = phase.clone()
    averages = torch.zeros_like(phase), torch.ones_like(phase)
    sums = phase_ascent_(normal(1, 3, *size), rendered, magnitude, phase, *averages, RANGE, step=1)
    assert not torch.equal(phase, before)
    torch.testing.assert_close(sums.sum(1)[0, 0], phase.double().sum(), rtol=1e-9, atol=1e-9)


def test_update():
    """With the numbers of the second step from a table."""
    phase, gradient = normal(1, 40), normal(1, 40, seed=1)
    states = [[phase.clone(), torch.zeros(1, 40), torch.ones(1, 40)] for _ in range(2)]
    for (state, *averages), numbers in zip(
        states,
        ({"step": 2}, {"step": torch.tensor(1), "rates": nadam_table(3).to(phase.device)}),
        strict=True,
    ):
        sums = phase_update_(state, gradient, *averages, **numbers)
        torch.testing.assert_close(sums.sum(1)[0, 0], state.double().sum(), rtol=1e-9, atol=1e-9)
    for one, other in zip(*states, strict=True):
        assert torch.equal(one, other)
