"""Parametrizations against independent formulas, and where and from what they are drawn."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fvfast.lucent.optvis import param
from fvfast.lucent.optvis.devices import parameter_device, parameters_on


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 6), (5, 7), (7, 4)])
@pytest.mark.parametrize("decay", [1, 0.5])
def test_fft_image(height, width, decay):
    """Lucent's formula, in numpy and float64."""
    (state,), image = param.fft_image((2, 3, height, width), sd=1.0, decay_power=decay)
    half = width // 2 + 1
    assert state.shape == (2, 3, height, half + width % 2, 2)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[:half]
    scale = 1 / np.maximum(np.sqrt(fx**2 + fy**2), 1 / max(width, height)) ** decay
    values = state.detach().double().numpy()[:, :, :, :half]
    spectrum = scale * (values[..., 0] + 1j * values[..., 1])
    expected = np.fft.irfft2(spectrum, s=(height, width), norm="ortho") / 4
    np.testing.assert_allclose(image().detach().numpy(), expected, rtol=0, atol=2e-6)


def test_colors():
    """The mixed colors have Lucent's matrix, over its largest column norm."""
    matrix = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    matrix /= np.linalg.norm(matrix, axis=0).max()
    values = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mixed = np.einsum("rc,nchw->nrhw", matrix, values.numpy())
    image = param.to_valid_rgb(lambda: values, decorrelate=True)()
    np.testing.assert_allclose(image, 1 / (1 + np.exp(-mixed)), rtol=1e-6)
    torch.testing.assert_close(param.to_valid_rgb(lambda: values)(), values.sigmoid())


@pytest.mark.parametrize(
    ("arguments", "state", "shape"),
    [
        ({"w": 6}, (1, 3, 6, 4, 2), (1, 3, 6, 6)),
        ({"w": 6, "h": 4, "batch": 5}, (5, 3, 4, 4, 2), (5, 3, 4, 6)),
        ({"w": 6, "fft": False}, (1, 3, 6, 6), (1, 3, 6, 6)),
        ({"w": 5, "channels": 2}, (1, 2, 5, 4, 2), (1, 2, 5, 5)),
    ],
)
def test_image(arguments, state, shape):
    torch.manual_seed(2)
    (tensor,), image = param.image(**arguments)
    torch.manual_seed(2)
    # As Lucent draws: the same seed, the same image.
    assert torch.equal(tensor, torch.randn(state) * 0.01)
    assert tensor.requires_grad
    assert tensor.is_leaf
    assert image().shape == shape
    assert image().min() > 0
    assert image().max() < 1
    image().sum().backward()
    assert tensor.grad.abs().sum() > 0


def test_channels_switch_recorrelation_off():
    torch.manual_seed(0)
    _, colored = param.image(6, fft=False, decorrelate=True)
    torch.manual_seed(0)
    (state,), plain = param.image(6, fft=False, channels=3)
    assert torch.equal(plain(), state.sigmoid())
    assert not torch.equal(plain(), colored())


def interpolation(large, small):
    """Matrix (large, small) that interpolates linearly, with the ends at the ends."""
    matrix = torch.zeros(large, small, dtype=torch.float64)
    for row in range(large):
        place = row * (small - 1) / (large - 1) if large > 1 else 0.0
        left = min(math.floor(place), max(0, small - 2))
        matrix[row, left] += 1 - (place - left)
        if small > 1:
            matrix[row, left + 1] += place - left
    return matrix


@pytest.mark.parametrize("small", [(1, 3, 4, 5), (2, 3, 8, 3), (4, 1, 8, 10), (3, 2, 1, 1)])
def test_lowres_tensor(small):
    large = (4, 3, 8, 10)
    (state,), image = param.lowres_tensor(large, small, sd=1.0)
    assert state.shape == small
    matrices = [interpolation(*sizes) for sizes in zip(large, small, strict=True)]
    expected = torch.einsum("an,bc,dh,ew,nchw->abde", *matrices, state.detach().double())
    torch.testing.assert_close(image().double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("offset", "shifts"),
    [
        (2, (0, 0, 2, 2)), ([0, 0, 1, 3], (0, 0, 1, 3)), ([1, 2, 0, 0], (1, 2, 0, 0)),
        (True, (2, 0, 1, 1)), (False, (0, 0, 0, 0)), ([False, False, True, 4], (0, 0, 1, 4)),
    ],
)  # fmt: skip
def test_offsets(offset, shifts):
    """What is moved leaves its mirror image behind."""
    large, small = (4, 3, 8, 10), (1, 3, 4, 5)
    torch.manual_seed(0)
    _, plain = param.lowres_tensor(large, small, sd=1.0)
    torch.manual_seed(0)
    _, moved = param.lowres_tensor(large, small, offset=offset, sd=1.0)
    indices = [
        [abs(index - shift) for index in range(size)]
        for size, shift in zip(large, shifts, strict=True)
    ]
    expected = plain()[np.ix_(*indices)]
    assert torch.equal(moved(), expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_cppn(normalize):
    params, image = param.cppn(6, num_hidden_channels=5, num_layers=3, normalize=normalize)
    assert [tuple(one.shape) for one in params[::2]] == [(5, 2, 1, 1), (5, 10, 1, 1), (3, 10, 1, 1)]
    assert torch.equal(image(), torch.full((1, 3, 6, 6), 0.5))
    with torch.no_grad():
        for one in params:
            one.normal_()
    # By hand, pixel by pixel.
    line = torch.linspace(-math.sqrt(3), math.sqrt(3), 6)
    values = torch.stack([line[:, None].expand(6, 6), line[None].expand(6, 6)])
    for index, (weight, bias) in enumerate(zip(params[::2], params[1::2], strict=True)):
        values = torch.einsum("oi,ihw->ohw", weight[:, :, 0, 0], values) + bias[:, None, None]
        if normalize:
            mean, variance = (
                values.mean((1, 2), keepdim=True),
                values.var((1, 2), False, keepdim=True),
            )
            values = (values - mean) / (variance + 1e-5).sqrt()
        if index < 2:
            bent = values.atan()
            values = torch.cat([bent / 0.67, bent**2 / 0.6])
    torch.testing.assert_close(image()[0], values.sigmoid(), rtol=1e-4, atol=1e-5)


def test_other_activations_of_cppn():
    class Doubled(nn.Module):
        def forward(self, x):
            return torch.cat([x.sin(), x.cos()], 1)

    params, image = param.cppn(4, activation_fn=Doubled, num_output_channels=1)
    assert image().shape == (1, 1, 4, 4)
    assert len(params) == 16


def test_parameters_are_on_the_device_of_the_run():
    assert parameter_device() == torch.device("cpu")
    with parameters_on(torch.device("meta")):
        (state,), image = param.image(8)
        assert state.device.type == image().device.type == "meta"
        assert param.lowres_tensor((1, 3, 4, 4), (1, 3, 2, 2))[0][0].device.type == "meta"
        assert param.cppn(4)[0][0].device.type == "meta"
    assert parameter_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: param.image(0), ValueError, "image: w must be at least 1, got 0"),
        (lambda: param.image(128.0), TypeError, "image: w must be an integer"),
        (lambda: param.image(8, batch=0), ValueError, "image: batch must be at least 1"),
        (lambda: param.image(8, h=0), ValueError, "image: h must be at least 1"),
        (lambda: param.image(8, sd=float("nan")), ValueError, "sd must be finite"),
        (lambda: param.fft_image((3, 8, 8)), ValueError, r"shape is \(3, 8, 8\); expected"),
        (lambda: param.lowres_tensor((3, 8), (3, 4)), ValueError, r"expected \(N, C, H, W\)"),
        (
            lambda: param.lowres_tensor((1, 3, 8, 8), (1, 3, 4, 4), offset=[1, 2]),
            ValueError,
            "offset has 2 entries; expected one for each axis",
        ),
        (
            lambda: param.lowres_tensor((1, 3, 8, 8), (1, 3, 4, 4), offset=8),
            ValueError,
            "expected at most 7",
        ),
        (lambda: param.cppn(8, num_layers=0), ValueError, "num_layers must be at least 1"),
        (lambda: param.upconvGAN("fc6"), NotImplementedError, "Load a generator yourself"),
    ],
)
def test_wrong_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()
