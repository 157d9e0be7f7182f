"""The color space in which natural images' channels are uncorrelated, and the way back.

Source: the empirical color correlation of ImageNet from Lucid (C. Olah, A. Mordvintsev,
L. Schubert, "Feature Visualization", Distill, 2017), with the values of Xplique 2.0.
"""

import numpy as np
import torch

ColorMatrix = tuple[tuple[float, float, float], ...]

# Row i is the RGB color of decorrelated channel i: lightness, red-blue, and green-magenta.
COLOR_CORRELATION: ColorMatrix = (
    (0.56282854, 0.58447580, 0.58447580),
    (0.19482528, 0.00000000, -0.19482528),
    (0.04329450, -0.10823626, 0.06494176),
)
COLOR_DECORRELATION: ColorMatrix = tuple(
    (float(row[0]), float(row[1]), float(row[2])) for row in np.linalg.inv(COLOR_CORRELATION)
)


def _mix_channels(images: torch.Tensor, matrix: ColorMatrix, function: str) -> torch.Tensor:
    if images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(
            f"{function}: images have shape {tuple(images.shape)}; expected (..., 3, H, W). Images "
            "with another number of channels have no colors to correlate: leave this step out."
        )
    first, second, third = images.unbind(-3)
    # Sums rather than a matrix product, which autocast and TF32 would round to 8 or 11 bits.
    mixed = [first * matrix[0][j] + second * matrix[1][j] + third * matrix[2][j] for j in range(3)]
    return torch.stack(mixed, dim=-3)


def recorrelate_colors(images: torch.Tensor) -> torch.Tensor:
    """Map decorrelated channels to RGB: ``images`` @ `COLOR_CORRELATION` over the channels.

    Parameters
    ----------
    images
        (..., 3, H, W), floating point, any range.

    Returns
    -------
    images
        Same shape and dtype; RGB, not yet limited to a range of values.

    Raises
    ------
    ValueError
        If there are not 3 channels.
    """
    return _mix_channels(images, COLOR_CORRELATION, "recorrelate_colors")


def decorrelate_colors(images: torch.Tensor) -> torch.Tensor:
    """Map RGB to decorrelated channels: the inverse of `recorrelate_colors`.

    Parameters
    ----------
    images
        (..., 3, H, W), floating point, any range.

    Returns
    -------
    images
        Same shape and dtype.

    Raises
    ------
    ValueError
        If there are not 3 channels.
    """
    return _mix_channels(images, COLOR_DECORRELATION, "decorrelate_colors")
