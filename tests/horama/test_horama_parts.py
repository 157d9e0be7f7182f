"""The building blocks of Horama, against definitions and in float64."""

import functools

import pytest
import torch
from selection import thorough
from torch import nn
from torch.autograd import gradcheck

from fvfast.horama import common, feature_accentuation, fourier_fv, losses, maco_fv
from fvfast.horama.ascent import fvfast_views, horama_views
from fvfast.horama.drawing import TorchDraws
from fvfast.horama.resampling import bicubic_reduction, horama_crops

RANGE = (-2.0, 3.0)


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def boxes(count, side, spread=0.3, seed=1):
    centers = 0.5 + spread * numbers(count, 2, seed=seed)
    half = torch.full((count, 1), side / 2, dtype=torch.float64)
    return torch.cat((centers - half, centers + half), dim=1)


@pytest.mark.parametrize(
    ("shape", "size", "side"),
    [
        ((64, 64), (32, 32), 0.27), ((65, 90), (13, 18), 1.4), thorough((40, 40), (32, 32), 0.01),
        thorough((300, 200), (24, 24), 0.9),
    ],
)  # fmt: skip
def test_crops_are_roi_align_and_a_bicubic_reduction(shape, size, side):
    """Those of torchvision and torch, in boxes that also reach outside the image."""
    ops = pytest.importorskip("torchvision.ops")
    image, drawn = numbers(3, *shape).requires_grad_(), boxes(7, side)
    scale = torch.tensor([shape[0], shape[1]] * 2)
    y1, x1, y2, x2 = (drawn * scale).unbind(1)
    rois = torch.stack([torch.zeros(7, dtype=torch.float64), x1, y1, x2, y2], dim=1)
    large = ops.roi_align(image[None], rois, (2 * size[0], 2 * size[1]))
    expected = nn.functional.interpolate(
        large, size, mode="bicubic", align_corners=True, antialias=True
    )
    actual = horama_crops(image, drawn, size)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-12)
    cotangent = numbers(*expected.shape, seed=2)
    gradients = [torch.autograd.grad(one, image, cotangent)[0] for one in (actual, expected)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-11)


def test_gradients_of_crops():
    assert gradcheck(
        lambda image: horama_crops(image, boxes(3, 0.5), (4, 3)), numbers(3, 9, 8).requires_grad_()
    )


def test_the_reduction_keeps_constants():
    assert torch.allclose(bicubic_reduction(9).sum(1), torch.ones(9, dtype=torch.float64))


def test_a_box_beside_the_image_is_zero():
    outside = torch.tensor([[1.5, 1.5, 1.8, 1.8], [-0.9, -0.9, -0.5, -0.5]])
    assert not horama_crops(numbers(3, 20, 20), outside, (6, 6)).any()


@pytest.mark.parametrize("width", [8, 9])
def test_gradients_of_images(width):
    """Of each map from what is optimized to the image, in float64."""
    half = (3, 6, width // 2 + 1)
    magnitude = numbers(*half).abs() + 0.1
    maco = functools.partial(maco_fv.maco_preconditioner, width=width)
    assert gradcheck(
        lambda phase: maco(magnitude, phase, RANGE), numbers(*half, seed=1).requires_grad_()
    )
    assert gradcheck(
        lambda template: maco(template, numbers(*half, seed=1), RANGE), magnitude.requires_grad_()
    )
    spectrum = torch.complex(numbers(*half, seed=2), numbers(*half, seed=3))
    scaler = fourier_fv.get_fft_scale(width, 6, 1.5).to(torch.complex128)
    assert gradcheck(
        lambda free: fourier_fv.fourier_preconditionner(free, scaler, RANGE, width=width),
        spectrum.requires_grad_(),
    )


def test_the_scaler_scales_the_gradient_only():
    spectrum = torch.complex(numbers(3, 6, 5), numbers(3, 6, 5, seed=1)).requires_grad_()
    scaler = fourier_fv.get_fft_scale(8, 6, 1.5)
    scaled = feature_accentuation.SpectrumBackwardScaler(scaler)(spectrum)
    assert torch.equal(scaled, spectrum)
    cotangent = torch.complex(numbers(3, 6, 5, seed=2), numbers(3, 6, 5, seed=3))
    (gradient,) = torch.autograd.grad(scaled, spectrum, cotangent)
    assert torch.allclose(gradient, cotangent * scaler)


@pytest.mark.parametrize("shape", [(20, 20), (21, 17)])
def test_accentuation_begins_with_the_photograph(shape):
    """Up to the margin of the logit, 1e-3 of the range at both ends, as in Horama."""
    photograph = numbers(3, *shape).sigmoid()
    low, high = photograph.amin(), photograph.amax()
    spectrum = feature_accentuation.inverse_image_spectrum(photograph)
    scaler = feature_accentuation.SpectrumBackwardScaler(torch.ones(1))
    image = feature_accentuation.fa_preconditionner(
        spectrum, scaler, (low.item(), high.item()), width=shape[1]
    )
    assert (image - photograph).abs().max() < 1.01e-3 * (high - low)


def test_a_photograph_of_one_value_is_finite():
    spectrum = feature_accentuation.inverse_image_spectrum(torch.full((3, 6, 6), 0.5))
    assert torch.view_as_real(spectrum).isfinite().all()


def test_scales_and_starts():
    scale = fourier_fv.get_fft_scale(9, 6, 1.5)
    assert scale.dtype == torch.complex64
    assert scale.shape == (1, 6, 5)
    frequencies = fourier_fv.fft_2d_freq(9, 6)
    expected = (9 * 6) ** 0.5 / frequencies.clamp(min=1 / 9) ** 1.5
    assert torch.allclose(scale.real[0], expected)
    assert fourier_fv.init_lucid_buffer(9, 6, std=2.0, seed=0).shape == (3, 6, 5)
    values = torch.view_as_real(fourier_fv.init_lucid_buffer(99, 60, std=2.0, seed=0))
    assert values.std() == pytest.approx(2, rel=0.05)


def test_standardize_has_horamas_numbers():
    values = numbers(3, 5, 4) * 3 + 1
    expected = (values - values.mean()) / (values.std(correction=1) + 1e-4)
    assert torch.allclose(common.standardize(values), expected)


def test_colors():
    image = numbers(3, 5, 4)
    matrix = common.get_color_correlation_svd_sqrt("cpu").double()
    expected = torch.einsum("chw,cd->dhw", image, matrix)
    assert torch.allclose(common.recorrelate_colors(image, "cpu"), expected, atol=1e-6)


def test_box_sizes_are_those_of_the_code():
    """U(high, 2 high - low), with centers N(0.5, 0.15)."""
    drawn = TorchDraws(torch.device("cpu"), seed=0).boxes(20_000, (0.20, 0.25))
    sides = drawn[:, 2:] - drawn[:, :2]
    assert torch.allclose(sides[:, 0], sides[:, 1], atol=1e-6)
    assert sides.min() == pytest.approx(0.25, abs=1e-3)
    assert sides.max() == pytest.approx(0.30, abs=1e-3)
    centers = (drawn[:, 2:] + drawn[:, :2]) / 2
    assert centers.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert centers.std(0).tolist() == pytest.approx([0.15, 0.15], abs=0.01)


def test_both_ways_of_resampling_look_alike():
    """On a smooth image: crops differ by half a pixel and by what the filter does at borders."""

    class Recipe:
        crops_per_iteration, box_size, crop_size, noise = 400, (0.20, 0.25), (4, 4), 0.0

    smooth = nn.functional.interpolate(
        numbers(1, 3, 4, 4, dtype=torch.float32), (128, 128), mode="bicubic"
    )
    statistics = [
        (crops.mean().item(), crops.std().item())
        for crops in (
            horama_views(Recipe, TorchDraws(torch.device("cpu"), 0))(smooth, 0),
            fvfast_views(Recipe, 0)(smooth, 0),
        )
    ]
    assert statistics[0] == pytest.approx(statistics[1], abs=0.05)


def test_noise_of_both_ways_is_of_one_size():
    class Recipe:
        crops_per_iteration, box_size, crop_size, noise = 8, (0.20, 0.25), (32, 32), 0.5

    nothing = torch.zeros(1, 3, 64, 64)
    expected = 0.5 * (1 + 1 / 12) ** 0.5
    for views in (
        horama_views(Recipe, TorchDraws(torch.device("cpu"), 0)),
        fvfast_views(Recipe, 0),
    ):
        assert views(nothing, 0).std() == pytest.approx(expected, rel=0.02)


def test_losses():
    first, second = numbers(4, 6), numbers(4, 6, seed=1)
    cosine = nn.functional.cosine_similarity(first, second)
    assert torch.allclose(losses.cosine_similarity(first, second), cosine)
    expected = cosine.clamp(min=0.1) ** 2 * (first * second).sum()
    assert torch.allclose(losses.dot_cossim(first, second), expected)
    assert torch.allclose(
        losses.dot_cossim(first[0], second[0]), losses.dot_cossim(first[:1], second[:1])[0]
    )
    assert losses.cosine_similarity(first[0], second[0]).ndim == 0
    with pytest.raises(ValueError, match="shapes"):
        losses.dot_cossim(first, second[:, :3])
