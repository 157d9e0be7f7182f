"""Photographs as users have them, and what a run begins with."""

import numpy as np
import pytest
import torch
from photographs import array_of, forms_of
from PIL import Image
from torch.autograd import gradcheck

from fvfast.ops.colors import recorrelate_colors
from fvfast.parametrizations.fourier import fft_to_rgb, get_fft_scale
from fvfast.parametrizations.photograph_phase import squeezed
from fvfast.parametrizations.starts import MARGIN, coefficients_of, phase_of, unbounded_pixels
from fvfast.spectrum.photograph import check_photograph, read_photograph

RANGE = (-1.5, 2.5)
SHAPE = (3, 24, 36)


def test_all_forms_are_the_same_photograph(tmp_path):
    array = array_of()
    expected = torch.from_numpy(array).permute(2, 0, 1).double() / 255 * 4 - 1.5
    for name, form in forms_of(array, tmp_path, RANGE).items():
        image = read_photograph(form, SHAPE, RANGE, "f")
        assert (image.shape, image.dtype) == (SHAPE, torch.float32), name
        assert torch.allclose(image.double(), expected, atol=1e-6), name


@pytest.mark.parametrize("size", [(12, 18), (20, 20), (7, 31), (48, 48)])
def test_other_sizes_are_cropped_around_the_center_and_resized(tmp_path, size):
    """All forms alike, up to the filter; the aspect of what is shown is kept."""
    array = np.zeros((60, 90, 3), np.uint8)
    array[20:40, 30:60] = 200  # a third of both sides
    images = {
        name: read_photograph(form, (3, *size), RANGE, "f")
        for name, form in forms_of(array, tmp_path, RANGE).items()
    }
    scale = min(60 / size[0], 90 / size[1])
    expected = 200 / 255 * 20 * 30 / (size[0] * size[1] * scale**2)
    for name, image in images.items():
        shares = (image + 1.5) / 4
        assert image.shape == (3, *size), name
        assert shares.min() >= 0, name
        assert shares.mean().item() == pytest.approx(expected, rel=0.12), name


def test_gray(tmp_path):
    array = array_of()
    Image.fromarray(array).save(tmp_path / "photograph.png")
    gray = read_photograph(tmp_path / "photograph.png", (1, 24, 36), (0, 1), "f")
    expected = np.asarray(Image.fromarray(array).convert("L")) / 255
    np.testing.assert_allclose(gray[0], expected, atol=1e-6)
    assert torch.equal(read_photograph(expected, (1, 24, 36), (0, 1), "f"), gray)
    five = torch.rand(5, 24, 36)
    assert torch.allclose(read_photograph(five, (5, 24, 36), (0, 1), "f"), five)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (None, TypeError, "f: the photograph must be the path of a file, .* got NoneType"),
        (["a.jpg"], TypeError, "got list"),
        ("missing.jpg", FileNotFoundError, "missing.jpg"),
        (".", ValueError, r"f: the photograph \. cannot be read"),
        ("text.png", ValueError, r"f: the photograph text\.png cannot be read: .*damaged"),
        (
            torch.zeros(8, 9, 3, dtype=torch.uint8),
            ValueError,
            r"tensor of shape \(8, 9, 3\); expected \(C, H, W\)",
        ),
        (torch.rand(1, 3, 8, 8), ValueError, r"tensor of shape \(1, 3, 8, 8\)"),
        (torch.rand(1, 8, 8), ValueError, "has 1 channel, and the images have 3"),
        (torch.rand(3, 8, 8) * 9, ValueError, r"values from .* expected -1\.5 to 2\.5"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "values from nan to nan"),
        (np.full((8, 8, 3), 127.0), ValueError, "values from 127 to 127; expected 0 to 1"),
        (np.zeros((3, 8, 9)), ValueError, r"array of shape \(3, 8, 9\); expected \(H, W, C\)"),
        (Image.new("I", (8, 8)), ValueError, "more than 8 bits"),
    ],
)
def test_what_is_no_photograph(tmp_path, monkeypatch, source, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(error, match=message):
        read_photograph(source, SHAPE, RANGE, "f")
    if error is TypeError:
        with pytest.raises(error, match=message):
            check_photograph(source, "f")


def test_files_of_other_channels():
    with pytest.raises(ValueError, match=r"1 or 3 channels, .* have 4: give a tensor \(4, H, W\)"):
        read_photograph(Image.new("RGB", (8, 8)), (4, 8, 8), RANGE, "f")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_map_to_images_is_inverted(channels):
    """To half a gray level at the ends of the range, to rounding elsewhere."""
    image = torch.rand(channels, 24, 31, generator=torch.Generator().manual_seed(0)) * 4 - 1.5
    image[:, 0, 0], image[:, 0, 1] = RANGE[0], RANGE[1]
    again = squeezed(unbounded_pixels(image, RANGE), RANGE)
    shares = (image + 1.5) / 4
    inside = (shares > MARGIN) & (shares < 1 - MARGIN)
    assert 0 < (~inside).sum() < inside.sum()
    assert (again - image).abs()[inside].max() < 1e-5
    assert (again - image).abs().max() < 4 * MARGIN + 1e-5
    assert MARGIN == 0.5 / 255


@pytest.mark.parametrize("width", [30, 31])
def test_coefficients_and_phases_are_those_of_the_photograph(width):
    pixels = torch.randn(3, 24, width, generator=torch.Generator().manual_seed(0))
    scale = get_fft_scale(width, 24, 1.3)
    again = fft_to_rgb((1, 3, 24, width), coefficients_of(pixels, scale)[:, None], scale)[0]
    assert torch.allclose(again, pixels, atol=1e-5)
    spectrum = torch.fft.rfft2(pixels)
    turned = spectrum * torch.polar(torch.ones_like(spectrum.real), -phase_of(pixels))
    assert torch.allclose(turned.real, spectrum.abs(), atol=1e-3)


def test_gradient_of_the_map():
    pixels = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda values: squeezed(values, RANGE), pixels)
    expected = recorrelate_colors(pixels).sigmoid() * 4 - 1.5
    assert torch.equal(squeezed(pixels, RANGE), expected)
