"""The gradient and the update as one operation: the same as one after the other."""

import functools
import math

import pytest
import torch

from fvfast.ops import phase_to_image, phase_update_
from fvfast.ops.nadam import nadam_rates
from fvfast.ops.phase_ascent import can_ascend, phase_ascent_, render_phase
from fvfast.ops.reference.phase import phase_to_image_reference, phase_update_reference_

RANGE = (-1.0, 2.0)
STEP = {"step": 3, "lr": 0.5}


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def state_of(images, channels, height, width, dtype):
    half = (images, channels, height, width // 2 + 1)
    magnitude = normal(*half[1:], seed=1, dtype=dtype).abs() + 0.1
    # Averages of squares that are not small: the update divides by their roots.
    squares = 0.5 + normal(*half, seed=3, dtype=dtype) ** 2
    averages = (0.1 * normal(*half, seed=2, dtype=dtype), squares)
    cotangent = normal(images, channels, height, width, seed=4, dtype=dtype)
    return magnitude, normal(*half, dtype=dtype), *averages, cotangent


def ascended(magnitude, phase, exp_avg, exp_avg_sq, cotangent):
    rendered = render_phase(magnitude, phase, RANGE, cotangent.shape[-1])
    sums = phase_ascent_(cotangent, rendered, magnitude, phase, exp_avg, exp_avg_sq, RANGE, **STEP)
    return phase, exp_avg, exp_avg_sq, sums.sum(1)


def reference(magnitude, phase, exp_avg, exp_avg_sq, cotangent):
    variable = phase.clone().requires_grad_()
    image = phase_to_image_reference(magnitude, variable, *RANGE, cotangent.shape[-1])
    (gradient,) = torch.autograd.grad(image, variable, cotangent)
    numbers = nadam_rates(**STEP).numbers()
    phase_update_reference_(phase, gradient, exp_avg, exp_avg_sq, **numbers)
    return phase, exp_avg, exp_avg_sq


@functools.cache
def allowed(shape, dtype):
    """Twice the reference's error in this type, over more images than are compared.

    float64 has no better reference; there the rounding of sums over P pixels grows as the root of
    P, as in test_phase_to_image.py.
    """
    many = state_of(8 * shape[0], *shape[1:], torch.float32)
    exact = reference(*(values.double() for values in many))
    if dtype == torch.float64:
        pixels = shape[1] * shape[2] * shape[3]
        rounding = torch.finfo(dtype).eps * (32 + math.sqrt(pixels))
        return [rounding * values.abs().max().item() for values in exact]
    rough = reference(*many)
    return [2 * (r.double() - e).abs().max().item() for r, e in zip(rough, exact, strict=True)]


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 3, 48, 40), (1, 1, 31, 97), (3, 4, 9, 7), (2, 3, 97, 30), (1, 3, 224, 225)]
)
def test_against_the_reference(shape, dtype):
    state = state_of(*shape, dtype)
    exact = reference(*(values.double().clone() for values in state))
    *actual, sums = ascended(*state)
    for values, expected, limit in zip(actual, exact, allowed(shape, dtype), strict=True):
        assert (values.double() - expected).abs().max() <= limit
    flat = actual[0].double().flatten(1)
    expected = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)
    # Terms of size 1 in float64: the rounding of n of them is far below n eps.
    assert (sums - expected).abs().max() <= flat.shape[1] * torch.finfo(torch.float64).eps * 16


def test_the_two_operations_give_the_same():
    state = state_of(2, 3, 48, 40, torch.float32)
    magnitude, phase, exp_avg, exp_avg_sq, cotangent = (values.clone() for values in state)
    variable = phase.requires_grad_()
    image = phase_to_image(magnitude, variable, RANGE, 40)
    (gradient,) = torch.autograd.grad(image, variable, cotangent)
    sums = phase_update_(phase.detach_(), gradient, exp_avg, exp_avg_sq, **STEP)
    actual = ascended(*state)
    for one, other in zip(actual, (phase, exp_avg, exp_avg_sq, sums.sum(1)), strict=True):
        # The same numbers in the same order; only fused products may differ.
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_autograd_notices_the_change_in_place():
    state = state_of(1, 3, 8, 8, torch.float32)
    phase = state[1].requires_grad_()
    loss = (phase**2).sum()
    with torch.no_grad():
        ascended(state[0], phase, *state[2:])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_opcheck():
    magnitude, phase, exp_avg, exp_avg_sq, cotangent = state_of(2, 3, 8, 12, torch.float32)
    rendered = render_phase(magnitude, phase, RANGE, 12)
    arguments = (
        cotangent, rendered.image, magnitude, phase, rendered.spectrum, rendered.statistics,
        *RANGE, exp_avg, exp_avg_sq, *nadam_rates(**STEP),
    )  # fmt: skip
    torch.library.opcheck(torch.ops.fvfast.phase_ascent_.default, arguments)


def test_no_images():
    state = state_of(0, 3, 8, 8, torch.float32)
    *_, sums = ascended(*state)
    assert sums.shape == (0, 2)


@pytest.mark.cpu_only
def test_what_it_does_not_serve():
    phase = torch.zeros(1, 3, 8, 5)
    assert can_ascend(phase, (0.0, 1.0))
    assert not can_ascend(phase, (1000.0, 1001.0))
    assert not can_ascend(phase.to("meta"), (0.0, 1.0))
