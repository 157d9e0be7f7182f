"""Magnitudes of half spectra: the closed form for natural images, measuring, and resampling.

All magnitudes are (C, H, W // 2 + 1) in float64, and all frequencies in cycles per pixel.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch.nn import functional

from fvfast._shared.checks import check_size
from fvfast.ops.colors import decorrelate_colors

# Half a gray level of an 8-bit image: black and white have no finite logit.
_LOGIT_MARGIN = 1 / 510
# Magnitudes below this share of the largest are rounding noise, and 0 has no logarithm.
_SMALLEST_SHARE = 1e-12


class _Coefficients(NamedTuple):
    """One channel of the closed form; its terms are listed at `_closed_form`."""

    constant: float
    slope: float
    square: float
    axes: float
    cube: float
    column: float
    column_slope: float
    mean_ratio: float


_NATURAL = (
    _Coefficients(3.2789, -1.37196, 2.34053, 0.0820499, 0.00235766, 1.11514, 0.14652, 2.392),
    _Coefficients(3.09635, -1.41568, 0.537775, 0.107235, 0.0018898, 1.33075, 0.219326, 2.605),
    _Coefficients(3.25933, -1.31949, 0.959538, 0.0950917, 0.00133816, 1.09993, 0.172041, 2.852),
)


def bin_frequencies(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies of the bins of a half spectrum.

    Parameters
    ----------
    height, width
        Size of the image in pixels, each at least 1.

    Returns
    -------
    vertical, horizontal
        (height, 1) and (1, width // 2 + 1), cycles per pixel, float64.
    """
    vertical = torch.fft.fftfreq(height, dtype=torch.float64, device="cpu")[:, None]
    return vertical, torch.fft.rfftfreq(width, dtype=torch.float64, device="cpu")[None, :]


def _parzen(frequencies: torch.Tensor) -> torch.Tensor:
    """Parzen window of a frequency in cycles per pixel: 1 at 0, 0 at 1/2."""
    x = 2 * frequencies.abs()
    return torch.where(x <= 0.5, 1 - 6 * x**2 * (1 - x), 2 * (1 - x) ** 3)


def window_magnitude(height: int, width: int) -> torch.Tensor:
    """Window (H, W // 2 + 1) of the natural spectrum: the root of a Parzen window for each axis."""
    vertical, horizontal = bin_frequencies(height, width)
    return (_parzen(vertical) * _parzen(horizontal)).sqrt()


def natural_magnitude(height: int, width: int, channels: int) -> torch.Tensor:
    """Average magnitude of natural images, in closed form, windowed.

    3 channels have a formula each (lightness and two colors); any other number of channels all
    have that of the lightness.
    """
    coefficients = _NATURAL if channels == 3 else _NATURAL[:1] * channels
    return torch.stack([_closed_form(c, height, width) for c in coefficients])


def _closed_form(c: _Coefficients, height: int, width: int) -> torch.Tensor:
    """Magnitude (H, W // 2 + 1) of one channel.

    With rho the length of the frequency vector in cycles per pixel, theta its angle and kx the
    horizontal frequency in cycles per image::

        ln m = constant + slope ln(rho) + square rho^2 + axes cos(4 theta) + cube ln(rho)^3
             + (column + column_slope ln(rho)) / (1 + (2 kx)^2) + ln(window)

    The cosine is the excess of horizontal and vertical edges, the column that of horizons and image
    borders. The mean of the image is a multiple of the lowest vertical frequency.
    """
    vertical, horizontal = bin_frequencies(height, width)
    rho = torch.hypot(vertical, horizontal)
    rho[0, 0] = 1  # ln(0); this bin is replaced below
    log = rho.log()
    theta = torch.atan2(vertical, horizontal)
    column = 1 / (1 + (2 * width * horizontal) ** 2)
    exponent = c.constant + c.slope * log + c.square * rho**2 + c.cube * log**3
    exponent = exponent + c.axes * (4 * theta).cos() + column * (c.column + c.column_slope * log)
    natural = exponent.exp()
    magnitude = natural * window_magnitude(height, width)
    # In 2 rows the lowest vertical frequency is also the highest one, where the window is 0.
    magnitude[0, 0] = c.mean_ratio * (magnitude if height > 2 else natural)[1, 0]
    return magnitude


def resample_magnitude(
    values: torch.Tensor, size: tuple[int, int], new_size: tuple[int, int]
) -> torch.Tensor:
    """Resample magnitudes (C, H, W // 2 + 1) of one image size at the frequencies of another.

    ln(m rho) is interpolated bilinearly over the plane of frequencies in cycles per pixel. The
    factor rho, the frequency's length, takes most of the slope out: m itself falls by half from the
    first bin to the second, too fast for a straight line. The mean (zero frequency) keeps its ratio
    to the lowest frequencies.
    """
    if size == new_size:
        return values
    height, width = size
    smallest = (values.amax((1, 2), keepdim=True) * _SMALLEST_SHARE).clamp(min=1e-300)
    rho = torch.hypot(*bin_frequencies(height, width))
    rho[0, 0] = 1
    log = (values.clamp(min=smallest) * rho).log()
    around_mean = torch.stack((log[:, 1, 0], log[:, -1, 0], log[:, 0, 1])).mean(0)
    mean_ratio = log[:, 0, 0] - around_mean
    log[:, 0, 0] = around_mean

    # The whole plane: bin (-ky, -kx) of a real image's spectrum has the magnitude of (ky, kx).
    rows = -torch.arange(height, device=log.device) % height
    columns = torch.arange(width // 2 + 1, width, device=log.device)
    plane = torch.cat((log, log[:, rows][:, :, width - columns]), dim=2)

    vertical, horizontal = bin_frequencies(*new_size)
    plane = _interpolate_periodically(plane, 1, vertical[:, 0] * height)
    plane = _interpolate_periodically(plane, 2, horizontal[0] * width)
    new_rho = torch.hypot(vertical, horizontal)
    new_rho[0, 0] = 1
    plane[:, 0, 0] = torch.stack((plane[:, 1, 0], plane[:, -1, 0], plane[:, 0, 1])).mean(0)
    # In units of the lowest bin, whose frequency differs between the sizes.
    plane[:, 0, 0] += mean_ratio + _lowest_rho_log(size) - _lowest_rho_log(new_size)
    return plane.exp() / new_rho


def _lowest_rho_log(size: tuple[int, int]) -> float:
    """Mean ln(rho) of the bins (1, 0), (-1, 0) and (0, 1)."""
    return (2 * math.log(1 / size[0]) + math.log(1 / size[1])) / 3


def _interpolate_periodically(
    values: torch.Tensor, axis: int, positions: torch.Tensor
) -> torch.Tensor:
    count = values.shape[axis]
    below = positions.floor()
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    weight = (positions - below).reshape(shape)
    first = values.index_select(axis, below.long() % count)
    second = values.index_select(axis, (below.long() + 1) % count)
    return first * (1 - weight) + second * weight


class MeanMagnitude(NamedTuple):
    """What `mean_magnitude` measured."""

    values: torch.Tensor
    size: tuple[int, int]
    image_count: int


def mean_magnitude(
    batches: Iterable[torch.Tensor],
    size: tuple[int, int] | None,
    *,
    of_logits: bool | None = None,
) -> MeanMagnitude:
    """Mean magnitude of images, with decorrelated colors if they have 3 channels.

    Images with values in [0, 1] go through the logit. Where any value is outside, the data set has
    been normalized for a network, and all images are measured as they are.

    Parameters
    ----------
    batches
        Tensors (N, C, H, W), floating point, finite.
    size
        (H, W) to which the images are cropped and resized; None for the first image's.
    of_logits
        Whether all values are in [0, 1]; None if only the end shows that, so that both are measured
        until then.

    Raises
    ------
    ValueError
        If there are no images, their values are not finite floating point numbers, or their number
        of channels changes.
    """
    logits, plain = _MagnitudeSum(), _MagnitudeSum()
    for batch in batches:
        if batch.ndim != 4:
            raise ValueError(
                f"Spectrum.from_images: images have shape {tuple(batch.shape)}; expected (C, H, W) "
                "or (N, C, H, W)."
            )
        if not len(batch):
            continue
        if not has_unit_range(batch):
            of_logits = False
        size = size or (batch.shape[2], batch.shape[3])
        check_size(*size, "Spectrum.from_images")
        images = fitted(batch.detach().cpu().float(), size)
        if of_logits is not False:
            logits.add(images.clamp(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN).logit())
        if not of_logits:
            plain.add(images)
    total, count = (plain if of_logits is False else logits).total_and_count()
    if total is None or size is None:
        raise ValueError("Spectrum.from_images: there are no images; expected at least one.")
    return MeanMagnitude(total / count, size, count)


def has_unit_range(images: torch.Tensor) -> bool:
    """Whether all values are in [0, 1]; ValueError unless they are finite floating point."""
    if not images.is_floating_point():
        raise ValueError(
            f"Spectrum.from_images: images are of {images.dtype}; expected floating point values. "
            "Divide 8-bit values by 255."
        )
    low, high = images.min().item(), images.max().item()
    if not -math.inf < low <= high < math.inf:
        raise ValueError(
            f"Spectrum.from_images: images have values from {low} to {high}; expected finite ones."
        )
    return low >= 0 and high <= 1


class _MagnitudeSum:
    """Sum of the magnitudes of images."""

    def __init__(self) -> None:
        self._total: torch.Tensor | None = None
        self._count = 0

    def add(self, images: torch.Tensor) -> None:
        if images.shape[1] == 3:
            images = decorrelate_colors(images)
        magnitudes = torch.fft.rfft2(images).abs().sum(0, dtype=torch.float64)
        if self._total is not None and self._total.shape != magnitudes.shape:
            raise ValueError(
                f"Spectrum.from_images: images have {len(magnitudes)} channels after others had "
                f"{len(self._total)}; expected the same number in all."
            )
        self._total = magnitudes if self._total is None else self._total + magnitudes
        self._count += len(images)

    def total_and_count(self) -> tuple[torch.Tensor | None, int]:
        return self._total, self._count


def fitted(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Crop images (N, C, H, W) around their center to the aspect of ``size``, and resize them."""
    if images.shape[2:] == size:
        return images
    height, width = images.shape[2:]
    scale = min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    cropped = images[:, :, top : top + rows, left : left + columns]
    return functional.interpolate(cropped, size, mode="bilinear", antialias=True)
