"""Every kernel on a grid as small as can be, for sanitizers to which each thread is a burden."""

import pytest
import torch

from fvfast.ops import inject_noise, pyramid_to_image, random_crops
from fvfast.ops._kernels import kernels_for
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.ops.convolution_epilogue import convolution_epilogue_
from fvfast.ops.gradient_flags import GRADIENT_NOT_ZERO
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.phase_cuda import phase_gradient_cuda
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


def phase_and_more(height=16, width=20):
    """Return magnitude, phase, its sums, and a rendered image."""
    half = (3, height, width // 2 + 1)
    magnitude, phase = normal(*half).abs() + 0.1, normal(1, *half, seed=1)
    flat = phase.double().flatten(1)
    sums = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)[:, None]
    return magnitude, phase, render_phase(magnitude, phase, RANGE, width, phase_sums=sums)


@pytest.mark.compiled
@pytest.mark.parametrize("size", [(16, 20), (7, 11)])
def test_phase_to_image(size):
    magnitude, phase, rendered = phase_and_more(*size)
    expected = phase_to_image_reference(magnitude, phase, *RANGE, size[1])
    torch.testing.assert_close(rendered.image, expected, rtol=1e-4, atol=1e-5)


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
    phase_step_(
        normal(1, 3, 16, 20), rendered, magnitude, phase, next_phase, *averages, RANGE, sums=sums,
        step=1, **gate,
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


@pytest.mark.compiled
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_convolution_epilogue(memory_format):
    output, term = (
        normal(1, 5, 3, 7, seed=seed).contiguous(memory_format=memory_format) for seed in (0, 1)
    )
    bias, limits = normal(5, seed=2), (0.0, 6.0)
    expected = convolution_epilogue_reference(output, bias, term, limits)
    convolution_epilogue_(output, bias, term=term, limits=limits)
    assert torch.equal(output, expected)


def test_unfinished_gradient():
    """The rows and columns of the way back, without the end: more threads than all before."""
    found = kernels_for(torch.get_default_device())
    if found is None or found.target is None:
        pytest.skip("only CUDA leaves a gradient unfinished")
    magnitude, phase, rendered = phase_and_more()
    _, scratch = phase_gradient_cuda(
        found, normal(1, 3, 16, 20), magnitude, phase, rendered.image, rendered.statistics, RANGE,
        finish=False,
    )  # fmt: skip
    assert scratch.any()


def test_update():
    magnitude, phase, rendered = phase_and_more()
    before = phase.clone()
    averages = torch.zeros_like(phase), torch.ones_like(phase)
    sums = phase_ascent_(normal(1, 3, 16, 20), rendered, magnitude, phase, *averages, RANGE, step=1)
    assert not torch.equal(phase, before)
    torch.testing.assert_close(sums.sum(1)[0, 0], phase.double().sum(), rtol=1e-9, atol=1e-9)
