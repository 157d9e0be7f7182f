"""Shifts of the colors of views."""

import math

import pytest
import torch

from fvfast import Objective, maco, maco_batch
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.views import shift_colors

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 4, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}
KEY = {"seed": 5, "identities": [7, 0], "step": 2}


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=INPUT)


def factors_and_offsets(width, **key):
    """Of 2 images with 50 views of 3 channels."""
    black = shift_colors(torch.zeros(100, 3, 1, 1), width, **key)
    white = shift_colors(torch.ones(100, 3, 1, 1), width, **key)
    return (white - black).flatten(1), black.flatten(1)


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_each_channel_of_each_view_is_scaled_and_moved(width):
    factors, offsets = factors_and_offsets(width, **KEY)
    for drawn in (factors.log() / width, offsets / width):
        assert drawn.abs().max() <= 1 + 1e-5
        assert drawn.flatten().unique().numel() > 290
        # Uniform in [-1, 1) means a deviation of 1 / sqrt(3); that of the mean of 300 is 0.03.
        assert abs(drawn.mean()) < 0.15
        assert drawn.std() == pytest.approx(1 / math.sqrt(3), rel=0.15)
    assert torch.corrcoef(torch.stack((factors.flatten(), offsets.flatten())))[0, 1].abs() < 0.2


def test_all_pixels_of_a_channel_are_shifted_alike():
    views = torch.randn(4, 3, 5, 6)
    factors, offsets = (
        numbers[..., None, None]
        for numbers in (
            shift_colors(torch.ones(4, 3, 1, 1), 1.0, **KEY)[..., 0, 0]
            - shift_colors(torch.zeros(4, 3, 1, 1), 1.0, **KEY)[..., 0, 0],
            shift_colors(torch.zeros(4, 3, 1, 1), 1.0, **KEY)[..., 0, 0],
        )
    )
    torch.testing.assert_close(shift_colors(views, 1.0, **KEY), views * factors + offsets)


def test_numbers_are_functions_of_seed_identity_and_step():
    views = torch.ones(4, 3, 1, 1)
    shifted = shift_colors(views, 1.0, **KEY)
    alone = shift_colors(views[:2], 1.0, **{**KEY, "identities": [0]})
    assert torch.equal(shifted[2:], alone)
    for change in ({"seed": 6}, {"step": 3}):
        assert (shift_colors(views, 1.0, **{**KEY, **change}) != shifted).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_type_and_memory_format_stay(dtype, memory_format):
    views = torch.randn(4, 3, 5, 6).to(dtype).contiguous(memory_format=memory_format)
    views.requires_grad_()
    shifted = shift_colors(views, 1.0, **KEY)
    assert shifted.dtype == dtype
    assert shifted.is_contiguous(memory_format=memory_format)
    (gradient,) = torch.autograd.grad(shifted.float().sum(), views)
    white, black = (
        shift_colors(given, 1.0, **KEY)
        for given in (torch.ones(4, 3, 5, 6), torch.zeros(4, 3, 5, 6))
    )
    torch.testing.assert_close(gradient.float(), white - black, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("preset", ["xplique", "fast", "pyramid"])
@pytest.mark.parametrize("nb_crops", [0, 3])
def test_the_argument(objective, preset, nb_crops):
    settings = {**SHORT, "nb_crops": nb_crops, "preset": preset}
    plain = maco(objective, **settings)[0]
    assert torch.equal(maco(objective, **settings, color_shift=0)[0], plain)
    shifted = maco(objective, **settings, color_shift=1.0)[0]
    assert not torch.allclose(shifted, plain, atol=0.01)
    assert torch.equal(maco_batch(objective, **settings, color_shift=1.0).images[0], shifted)


def test_no_shift_is_recorded_as_before():
    assert MacoSettings(color_shift=0).described()["color_shift"] is None
    assert MacoSettings(color_shift=1).described()["color_shift"] == 1.0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-0.5, ValueError, "color_shift must be at least 0, got -0.5"),
        (math.nan, ValueError, "color_shift must be finite"),
        ("1", TypeError, "color_shift must be a number"),
        (True, TypeError, "color_shift must be a number"),
    ],
)
def test_wrong_values_are_named(objective, value, error, message):
    with pytest.raises(error, match=message):
        maco(objective, **SHORT, color_shift=value)
