"""Parametrizations and colors: properties, gradients, every size and number of channels."""

import itertools
import math

import pytest
import torch

from fvfast.ops.colors import (
    COLOR_CORRELATION,
    COLOR_DECORRELATION,
    decorrelate_colors,
    recorrelate_colors,
)
from fvfast.ops.reference.phase import half_spectrum_image
from fvfast.preconditioning import (
    fft_2d_freq,
    fft_image,
    fft_to_rgb,
    get_fft_scale,
    init_maco_buffer,
    maco_image_parametrization,
    standardize_phase,
    to_valid_grayscale,
    to_valid_rgb,
)
from fvfast.spectrum import Spectrum

SIZES = [(2, 2), (3, 2), (2, 5), (8, 8), (9, 12), (12, 9), (7, 11)]
CHANNELS = [1, 2, 3, 4, 7]


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def magnitude_and_phase(channels, height, width, images=()):
    shape = (channels, height, width // 2 + 1)
    return normal(*shape).abs() + 0.1, normal(*images, *shape, seed=1)


# Colors


def test_color_matrices_are_inverse():
    product = torch.tensor(COLOR_CORRELATION).double() @ torch.tensor(COLOR_DECORRELATION).double()
    torch.testing.assert_close(product, torch.eye(3).double(), atol=1e-6, rtol=0)
    images = normal(2, 3, 4, 5)
    torch.testing.assert_close(decorrelate_colors(recorrelate_colors(images)), images)


def test_colors_are_a_row_vector_times_the_matrix():
    images = normal(2, 3, 4, 5)
    expected = images.permute(0, 2, 3, 1) @ torch.tensor(COLOR_CORRELATION).double()
    torch.testing.assert_close(
        recorrelate_colors(images), expected.permute(0, 3, 1, 2), rtol=1e-6, atol=1e-7
    )


def test_colors_need_three_channels():
    for function in (recorrelate_colors, decorrelate_colors):
        with pytest.raises(ValueError, match=r"shape \(4, 8, 8\); expected \(\.\.\., 3, H, W\)"):
            function(torch.zeros(4, 8, 8))


# MaCo


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_maco_image_of_every_size(height, width, channels):
    magnitude, phase = magnitude_and_phase(channels, height, width, images=(2,))
    images = maco_image_parametrization(magnitude, phase, (-1, 2), width)
    assert images.shape == (2, channels, height, width)
    assert images.dtype == torch.float64
    assert images.min() > -1
    assert images.max() < 2
    alone = maco_image_parametrization(magnitude, phase[1], (-1, 2), width)
    torch.testing.assert_close(images[1], alone)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_standardized_image_has_the_magnitude_it_was_given(height, width):
    magnitude, phase = magnitude_and_phase(3, height, width)
    image = half_spectrum_image(magnitude, phase, width)
    assert image.mean().item() == pytest.approx(0, abs=1e-12)
    assert image.std(correction=0).item() == pytest.approx(1, rel=1e-3)
    # Up to the scale, away from the edge columns, where a real image's spectrum is symmetric.
    inner = slice(1, (width + 1) // 2)
    ratio = torch.fft.rfft2(image).abs()[:, :, inner] / magnitude[:, :, inner]
    torch.testing.assert_close(ratio, torch.full_like(ratio, ratio.mean().nan_to_num()))


def test_standardized_phase():
    phase = 3 * normal(2, 4, 6, 5) + torch.tensor([1.0, -7.0])[:, None, None, None]
    result = standardize_phase(phase)
    expected = torch.stack([(p - p.mean()) / (p.std(correction=0) + 1e-5) for p in phase])
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_constant_phase_is_finite(channels):
    for dtype in (torch.float32, torch.float64):
        magnitude = magnitude_and_phase(channels, 6, 8)[0].to(dtype)
        phase = torch.full_like(magnitude, 0.3, requires_grad=True)
        image = maco_image_parametrization(magnitude, phase, (0, 1))
        image.square().sum().backward()
        assert image.isfinite().all()
        assert phase.grad.isfinite().all()
        flat = maco_image_parametrization(torch.zeros_like(magnitude), phase, (0, 1))
        flat.sum().backward()
        torch.testing.assert_close(flat, torch.full_like(flat, 0.5))  # the middle of the range
        assert phase.grad.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 5), (5, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_maco_gradient(height, width, channels):
    magnitude, phase = magnitude_and_phase(channels, height, width, images=(2,))

    def image(magnitude, phase):
        return maco_image_parametrization(magnitude, phase, (-1, 1), width)

    arguments = (magnitude.requires_grad_(), phase.requires_grad_())
    assert torch.autograd.gradcheck(image, arguments, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_phase_is_computed_in_single(dtype):
    magnitude, phase = (x.to(dtype) for x in magnitude_and_phase(3, 6, 8))
    image = maco_image_parametrization(magnitude, phase, (0, 1))
    expected = maco_image_parametrization(magnitude.float(), phase.float(), (0, 1))
    assert image.dtype == torch.float32
    assert torch.equal(image, expected)


def test_autocast_does_not_round_the_image():
    magnitude, phase = (x.float() for x in magnitude_and_phase(3, 6, 8))
    expected = maco_image_parametrization(magnitude, phase, (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(maco_image_parametrization(magnitude, phase, (0, 1)), expected)


@pytest.mark.parametrize(
    ("magnitude", "phase", "width", "message"),
    [
        ((3, 8, 5), (3, 8, 4), None, r"shapes \(3, 8, 5\) and \(3, 8, 4\)"),
        ((1, 8, 5), (3, 8, 5), None, r"shapes \(1, 8, 5\) and \(3, 8, 5\)"),
        ((8, 5), (8, 5), None, r"shapes \(8, 5\) and \(8, 5\)"),
        ((3, 8, 5), (3, 8, 5), 10, "width is 10 .* expected width 8 or 9"),
        ((3, 8, 5), (3, 8, 5), 7, "width is 7 .* expected width 8 or 9"),
    ],
)
def test_unfit_arguments_are_refused(magnitude, phase, width, message):
    with pytest.raises(ValueError, match=message):
        maco_image_parametrization(torch.ones(magnitude), torch.zeros(phase), (0, 1), width)


@pytest.mark.parametrize("values_range", [(1, 0), (1, 1), (0, math.nan), (0, math.inf), (0, 1, 2)])
def test_values_range_is_checked(values_range):
    for function in (
        lambda: maco_image_parametrization(torch.ones(3, 4, 3), torch.zeros(3, 4, 3), values_range),
        lambda: to_valid_rgb(torch.zeros(1, 3, 4, 4), values_range=values_range),
        lambda: to_valid_grayscale(torch.zeros(1, 1, 4, 4), values_range=values_range),
    ):
        with pytest.raises(ValueError, match=r"values_range is .* low < high"):
            function()


# Initial phase


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_buffers_fit_the_parametrization(height, width, channels):
    magnitude, phase = init_maco_buffer((height, width), channels=channels)
    assert magnitude.shape == phase.shape == (channels, height, width // 2 + 1)
    assert magnitude.dtype == phase.dtype == torch.float32
    image = maco_image_parametrization(magnitude, phase, (0, 1), width)
    assert image.shape == (channels, height, width)
    assert image.isfinite().all()


def test_phase_belongs_to_the_seed_and_the_image():
    size = (9, 13)  # 3 * 9 * 7 numbers: an odd count
    _, alone = init_maco_buffer(size, seed=5)
    _, batch = init_maco_buffer(size, seed=5, identities=(7, 0, 3))
    assert batch.shape == (3, 3, 9, 7)
    assert torch.equal(batch[1], alone)
    assert torch.equal(init_maco_buffer(size, seed=5, identities=(3,))[1][0], batch[2])
    different = [*batch, init_maco_buffer(size, seed=6)[1]]
    for a, b in itertools.combinations(different, 2):
        assert (a != b).float().mean() > 0.99


def test_phase_distributions():
    _, phase = init_maco_buffer((128, 128), std=2.0)
    assert phase.mean().item() == pytest.approx(0, abs=0.05)
    assert phase.std().item() == pytest.approx(2, rel=0.02)
    assert ((phase.abs() < 2).float().mean() - 0.6827).abs() < 0.01  # normal within one deviation
    _, phase = init_maco_buffer((128, 128), distribution="uniform")
    assert phase.aminmax().min.item() == pytest.approx(-math.pi, abs=0.01)
    assert phase.aminmax().max.item() == pytest.approx(math.pi, abs=0.01)
    assert phase.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.02)


def test_magnitude_comes_from_the_data_set():
    images = torch.rand((4, 2, 10, 12), generator=torch.Generator().manual_seed(0))
    spectrum = Spectrum.from_images(images, progress=False)
    magnitude, phase = init_maco_buffer((8, 9), spectrum)
    assert phase.shape == (2, 8, 5)
    assert torch.equal(magnitude, spectrum.magnitude(8, 9, 2))
    assert torch.equal(init_maco_buffer((8, 9), images)[0], magnitude)
    assert torch.equal(init_maco_buffer((8, 9))[0], Spectrum.natural().magnitude(8, 9))
    with pytest.raises(ValueError, match="the spectrum has 2 channels, the images have 3"):
        init_maco_buffer((8, 9), spectrum, channels=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (8, 8, 3)}, r"image_shape is \(8, 8, 3\)"),
        ({"image_shape": (1, 8)}, "1 x 8 .* at least 2 x 2"),
        ({"image_shape": (8, 8), "channels": 0}, "channels is 0"),
        ({"image_shape": (8, 8), "distribution": "cauchy"}, "'cauchy'; expected 'normal'"),
    ],
)
def test_unfit_buffers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        init_maco_buffer(**arguments)


# Valid images


@pytest.mark.parametrize("normalizer", ["sigmoid", "clip", torch.tanh])
@pytest.mark.parametrize("channels", CHANNELS)
def test_valid_images_use_the_whole_range(normalizer, channels):
    images = normal(3, channels, 5, 7)
    functions = [to_valid_grayscale] + [to_valid_rgb] * (channels == 3)
    for function in functions:
        valid = function(images, normalizer, (-2, 5))
        torch.testing.assert_close(valid.amin((1, 2, 3)), torch.full((3,), -2.0).double())
        torch.testing.assert_close(valid.amax((1, 2, 3)), torch.full((3,), 5.0).double())
        alone = function(images[1:2], normalizer, (-2, 5))
        torch.testing.assert_close(valid[1:2], alone)


def test_only_rgb_is_recorrelated():
    images = normal(2, 3, 5, 5)
    expected = to_valid_grayscale(recorrelate_colors(images), "sigmoid", (0, 1))
    assert torch.equal(to_valid_rgb(images), expected)
    assert not torch.equal(to_valid_grayscale(images), expected)


@pytest.mark.parametrize("normalizer", ["sigmoid", "clip"])
@pytest.mark.parametrize("value", [0.0, -3.0, 0.4])
def test_constant_image_is_finite(normalizer, value):
    images = torch.full((2, 3, 4, 4), value)
    images[1] = normal(3, 4, 4)
    images.requires_grad_()
    for function in (to_valid_grayscale, to_valid_rgb):
        # Equal channels are one color, so the image stays constant within each channel only.
        source = torch.zeros_like(images[:1]) if function is to_valid_rgb else images[:1]
        valid = function(torch.cat((source, images[1:])), normalizer, (-1, 1))
        assert torch.equal(valid[0], torch.full((3, 4, 4), -1.0))
        valid.sum().backward()
        assert images.grad.isfinite().all()


def test_valid_images_refuse_bad_input():
    with pytest.raises(ValueError, match="normalizer is 'tanh'; expected 'sigmoid', 'clip'"):
        to_valid_rgb(torch.zeros(1, 3, 4, 4), "tanh")
    with pytest.raises(ValueError, match=r"shape \(1, 4, 8, 8\); expected \(\.\.\., 3, H, W\)"):
        to_valid_rgb(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"images have shape \(3, 8, 8\)"):
        to_valid_grayscale(torch.zeros(3, 8, 8))


@pytest.mark.parametrize("function", [to_valid_rgb, to_valid_grayscale])
def test_valid_image_gradient(function):
    images = normal(2, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(function, (images,), fast_mode=True)


# Fourier


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 1), (1, 6)])
def test_frequencies_are_those_of_the_transform(height, width):
    frequencies = fft_2d_freq(width, height)
    assert frequencies.shape == torch.fft.rfft2(torch.zeros(height, width)).shape
    for y in range(height):
        for x in range(width // 2 + 1):
            cycles = min(y, height - y) / height
            assert frequencies[y, x].item() == pytest.approx(math.hypot(cycles, x / width))


def test_scale_written_out():
    scale = get_fft_scale(12, 7, decay_power=0.5)
    assert scale.shape == (7, 7)
    size = math.sqrt(12 * 7)
    assert scale[0, 0].item() == pytest.approx(size * math.sqrt(12))  # as the lowest frequency
    assert scale[2, 3].item() == pytest.approx(size / math.hypot(2 / 7, 3 / 12) ** 0.5)
    assert scale[-2, 3].item() == scale[2, 3].item()
    assert get_fft_scale(12, 7)[1, 0].item() == pytest.approx(size * 7)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_fourier_buffer_gives_its_image_back(height, width, channels):
    images = normal(2, channels, height, width)
    scale = get_fft_scale(width, height, 0.85)
    spectrum = 4 * torch.fft.rfft2(images) / scale
    buffer = torch.stack((spectrum.real, spectrum.imag))
    result = fft_to_rgb((2, channels, height, width), buffer, scale)
    torch.testing.assert_close(result, images)


def test_fourier_buffer_belongs_to_the_seed_and_the_image():
    shape = (3, 2, 9, 13)
    buffer = fft_image(shape, std=0.5, seed=1)
    assert buffer.shape == (2, 3, 2, 9, 7)
    assert buffer.is_contiguous()
    assert buffer.std().item() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(fft_image((1, 2, 9, 13), 0.5, seed=1, identities=(2,))[:, 0], buffer[:, 2])
    assert not torch.equal(buffer[:, 0], buffer[:, 1])
    assert not torch.equal(buffer[0], buffer[1])
    assert not torch.equal(fft_image(shape, 0.5, seed=2), buffer)
    assert fft_image((1, 3, 64, 64)).std().item() == pytest.approx(0.01, rel=0.05)


def test_fourier_gradient():
    shape, scale = (2, 1, 3, 5), get_fft_scale(5, 3).double()
    buffer = fft_image(shape).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: fft_to_rgb(shape, b, scale), (buffer,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fft_2d_freq(0, 4), "width and height are 0 and 4"),
        (lambda: get_fft_scale(4, -1), "width and height are 4 and -1"),
        (lambda: fft_image((3, 8, 8)), r"shape is \(3, 8, 8\); expected \(N, C, H, W\)"),
        (lambda: fft_image((2, 3, 8, 8), identities=(1,)), "identities has 1 elements; expected 2"),
        (
            lambda: fft_to_rgb((1, 3, 8, 8), torch.zeros(2, 1, 3, 8, 4), torch.ones(8, 5)),
            r"buffer and fft_scale have shapes \(2, 1, 3, 8, 4\)",
        ),
        (
            # The scale of the transposed size, where width and height were exchanged.
            lambda: fft_to_rgb((1, 3, 8, 6), torch.zeros(2, 1, 3, 8, 4), get_fft_scale(8, 6)),
            r"\(6, 5\); expected .* and \(8, 4\)",
        ),
    ],
)
def test_fourier_refuses_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
