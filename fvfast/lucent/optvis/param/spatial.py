"""Images as Fourier coefficients, or as pixels, drawn from torch's global generator."""

from collections.abc import Sequence

import torch

from fvfast._shared.checks import check_count, check_finite
from fvfast.lucent.optvis.devices import parameter_device
from fvfast.lucent.optvis.param.color import Parameters
from fvfast.parametrizations.fourier import fft_to_rgb, get_fft_scale

STANDARD_DEVIATION = 0.01


def pixel_image(shape: Sequence[int], sd: float | None = None) -> Parameters:
    """Make a tensor of normal numbers that is its own image.

    Parameters
    ----------
    shape
        Any shape.
    sd
        Standard deviation. Default: 0.01.

    Returns
    -------
    params
        List of the tensor that is optimized.
    image_f
        Function without arguments that returns the image: the tensor.
    """
    sizes = [check_count(size, "pixel_image: a size of shape", 1) for size in shape]
    tensor = drawn(sizes, checked_deviation(sd, "pixel_image"))
    return [tensor], lambda: tensor


def fft_image(shape: Sequence[int], sd: float | None = None, decay_power: float = 1) -> Parameters:
    """Make the Fourier coefficients of images.

    Parameters
    ----------
    shape
        (N, C, H, W) of the images.
    sd
        Standard deviation of the coefficients. Default: 0.01.
    decay_power
        Power with which high frequencies are damped.

    Returns
    -------
    params
        List of one tensor (N, C, H, W // 2 + 1, 2), real and imaginary parts. If W is odd, there is
        one column more, which has no effect: with the same seed, it makes the image Lucent's.
    image_f
        Function without arguments that returns the images (N, C, H, W): unbounded, and in colors
        that are not correlated (see `fvfast.lucent.optvis.param.to_valid_rgb`).

    Raises
    ------
    ValueError
        ``shape`` is not (N, C, H, W).
    """
    if len(shape) != 4:
        raise ValueError(f"fft_image: shape is {tuple(shape)}; expected (N, C, H, W).")
    batch, channels, height, width = (
        check_count(size, "fft_image: a size of shape", 1) for size in shape
    )
    half = width // 2 + 1
    scale = get_fft_scale(width, height, check_finite(decay_power, "fft_image: decay_power"))
    coefficients = drawn(
        [batch, channels, height, half + width % 2, 2], checked_deviation(sd, "fft_image")
    )
    scale = scale.to(coefficients.device)

    def image() -> torch.Tensor:
        buffer = coefficients[:, :, :, :half].movedim(-1, 0)
        return fft_to_rgb((batch, channels, height, width), buffer, scale)

    return [coefficients], image


def checked_deviation(sd: float | None, function: str) -> float:
    """Return a standard deviation; raise TypeError or ValueError unless it is a finite number."""
    return check_finite(sd, f"{function}: sd") if sd else STANDARD_DEVIATION


def drawn(sizes: Sequence[int], deviation: float) -> torch.Tensor:
    """Draw a tensor that will be optimized: on the CPU, so that a seed gives it on any device."""
    numbers = torch.randn(*sizes, device="cpu", dtype=torch.float32) * deviation
    return numbers.to(parameter_device()).requires_grad_(True)
