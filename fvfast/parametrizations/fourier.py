"""Fourier coefficients as what is optimized: images from a free, scaled half spectrum.

Source: C. Olah, A. Mordvintsev, L. Schubert, "Feature Visualization" (Distill, 2017) and their
library Lucid; names and constants follow Xplique 2.0.
"""

import math
from collections.abc import Callable, Sequence

import torch

from fvfast.ops.philox import Purpose, draw_normal
from fvfast.parametrizations.base import Differentiated
from fvfast.parametrizations.optimizers import OptimizerSpec
from fvfast.parametrizations.starts import coefficients_of
from fvfast.spectrum.natural import bin_frequencies


class FourierCoefficients(Differentiated):
    """The Fourier coefficients of N images.

    The state is (N, 2, C, H, W // 2 + 1): real and imaginary parts, before they are scaled.

    Parameters
    ----------
    shape
        (N, C, H, W) of the images.
    identities
        Identities of the N images, which with the seed decide the initial coefficients.
    seed
        Any integer.
    std
        Standard deviation of the initial coefficients.
    decay
        Power with which high frequencies are damped.
    to_valid
        From the result of the inverse transform to images.
    optimizer
        See `fvfast.optimize`.
    device
        Where the run takes place.
    start
        (C, H, W): unbounded pixels that all images begin with, in the place of random ones.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        identities: Sequence[int],
        *,
        seed: int,
        std: float,
        decay: float,
        to_valid: Callable[[torch.Tensor], torch.Tensor],
        optimizer: OptimizerSpec,
        device: torch.device,
        start: torch.Tensor | None = None,
    ) -> None:
        scale = get_fft_scale(shape[3], shape[2], decay)
        if start is None:
            initial = fft_image(shape, std, seed=seed, identities=identities)  # (2, N, ...)
            state = initial.transpose(0, 1).contiguous()
        else:
            state = coefficients_of(start, scale).repeat(shape[0], 1, 1, 1, 1)
        super().__init__(state.to(device), to_valid, optimizer)
        self._shape = shape
        self._scale = scale.to(device)

    def pixels(self) -> torch.Tensor:
        """Return the inverse transform of the scaled coefficients."""
        return fft_to_rgb(self._shape, self.state.transpose(0, 1), self._scale)


def fft_2d_freq(width: int, height: int) -> torch.Tensor:
    """Length of the frequency vector of each bin of a half spectrum.

    Parameters
    ----------
    width, height
        Size of the image in pixels, each at least 1.

    Returns
    -------
    frequencies
        (height, width // 2 + 1), cycles per pixel in [0, sqrt(1/2)], float64. (Xplique 2.0 has one
        column too many for odd widths.)

    Raises
    ------
    ValueError
        If a size is below 1.
    """
    if width < 1 or height < 1:
        raise ValueError(
            f"fft_2d_freq: width and height are {width} and {height}; expected at least 1."
        )
    return torch.hypot(*bin_frequencies(height, width))


def get_fft_scale(width: int, height: int, decay_power: float = 1.0) -> torch.Tensor:
    """Factor of each bin that makes white noise look like a natural image.

    Scale = sqrt(width * height) / max(frequency, 1 / max(width, height)) ** decay_power.

    Parameters
    ----------
    width, height
        Size of the image in pixels, each at least 1.
    decay_power
        Larger values leave less energy to the high frequencies.

    Returns
    -------
    fft_scale
        (height, width // 2 + 1), float32.

    Raises
    ------
    ValueError
        If a size is below 1.
    """
    frequencies = fft_2d_freq(width, height).clamp(min=1 / max(width, height))
    return (frequencies**-decay_power * math.sqrt(width * height)).to(torch.float32)


def fft_image(
    shape: Sequence[int],
    std: float = 0.01,
    *,
    seed: int = 0,
    identities: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Random initial Fourier coefficients, Xplique's buffer.

    Parameters
    ----------
    shape
        (N, C, H, W) of the images.
    std
        Standard deviation of the normal numbers.
    seed
        The same seed gives the same coefficients on every device.
    identities
        N integers in [0, 2^32): an image's coefficients are a function of its identity and the
        seed, not of the batch. Default: 0 to N - 1.
    device
        Where the coefficients are put.

    Returns
    -------
    buffer
        (2, N, C, H, W // 2 + 1), real and imaginary parts, float32.

    Raises
    ------
    ValueError
        If ``shape`` is not (N, C, H, W) or ``identities`` does not have N elements.
    """
    batch, channels, height, width = _image_shape(shape, "fft_image")
    identities = range(batch) if identities is None else identities
    if len(identities) != batch:
        raise ValueError(
            f"fft_image: identities has {len(identities)} elements; expected {batch}, one for each "
            "image of the shape."
        )
    shape_of_one = (2, channels, height, width // 2 + 1)
    numbers = draw_normal(
        shape_of_one, seed=seed, purpose=Purpose.STATE, identities=identities, device=device
    )
    return (numbers * std).transpose(0, 1).contiguous()


def fft_to_rgb(shape: Sequence[int], buffer: torch.Tensor, fft_scale: torch.Tensor) -> torch.Tensor:
    """Images of Fourier coefficients.

    Parameters
    ----------
    shape
        (N, C, H, W) of the images.
    buffer
        (2, N, C, H, W // 2 + 1), real and imaginary parts.
    fft_scale
        (H, W // 2 + 1): see `get_fft_scale`.

    Returns
    -------
    images
        (N, C, H, W): a quarter (as in Lucid and Xplique) of the inverse transform of buffer *
        fft_scale. Unbounded and decorrelated: see `to_valid_rgb`.

    Raises
    ------
    ValueError
        If ``buffer`` or ``fft_scale`` does not fit ``shape``.
    """
    batch, channels, height, width = _image_shape(shape, "fft_to_rgb")
    half = (height, width // 2 + 1)
    if buffer.shape != (2, batch, channels, *half) or fft_scale.shape != half:
        raise ValueError(
            f"fft_to_rgb: buffer and fft_scale have shapes {tuple(buffer.shape)} and "
            f"{tuple(fft_scale.shape)}; expected {(2, batch, channels, *half)} and {half} for "
            f"images {tuple(shape)}. fft_image and get_fft_scale(width, height) make them."
        )
    spectrum = torch.complex(buffer[0], buffer[1]) * fft_scale
    images: torch.Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return images / 4


def _image_shape(shape: Sequence[int], function: str) -> tuple[int, int, int, int]:
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(
            f"{function}: shape is {tuple(shape)}; expected (N, C, H, W), each at least 1."
        )
    batch, channels, height, width = shape
    return batch, channels, height, width
