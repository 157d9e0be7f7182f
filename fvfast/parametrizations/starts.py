"""Starts that are an image: the state of which a parametrization makes it."""

from collections.abc import Sequence

import torch

from fvfast.ops.colors import decorrelate_colors

MARGIN = 1 / 510
"""Half a gray level of 256, as a fraction of the range: black and white have no finite logit."""


def unbounded_pixels(images: torch.Tensor, values_range: Sequence[float]) -> torch.Tensor:
    """Return the pixels of which sigmoid and colors make images.

    Parameters
    ----------
    images
        (..., C, H, W), in ``values_range``.
    values_range
        (low, high).

    Returns
    -------
    pixels
        Same shape, float32; `recorrelate_colors` (where there are 3 channels), sigmoid and range
        give the images again: to rounding, where values are at least `MARGIN` of the range away
        from its ends, and else `MARGIN` away from the end.
    """
    low, high = values_range
    shares = ((images.double() - low) / (high - low)).clamp(MARGIN, 1 - MARGIN)
    logits = shares.logit()
    pixels = decorrelate_colors(logits) if images.shape[-3] == 3 else logits
    return pixels.float()


def coefficients_of(pixels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the Fourier coefficients (2, C, H, W // 2 + 1) of which ``fft_to_rgb`` makes pixels.

    Parameters
    ----------
    pixels
        (C, H, W), unbounded.
    scale
        (H, W // 2 + 1): see `fvfast.parametrizations.fourier.get_fft_scale`.
    """
    # fft_to_rgb takes a quarter of the inverse transform.
    spectrum = 4 * torch.fft.rfft2(pixels.double()) / scale
    return torch.stack((spectrum.real, spectrum.imag)).float()


def phase_of(pixels: torch.Tensor) -> torch.Tensor:
    """Return the phase (C, H, W // 2 + 1) of the half spectrum of pixels (C, H, W), in radians."""
    return torch.fft.rfft2(pixels.double()).angle().float()
