"""Penalties on images: functions (N, C, H, W) -> (N,), subtracted from the score.

Source: A. Mahendran, A. Vedaldi, "Understanding Deep Image Representations by Inverting Them" (CVPR
2015); the reductions over the pixels are those of Xplique 2.0.
"""

import math
from collections.abc import Callable

import torch

from fvfast._shared.checks import check_images

Regularizer = Callable[[torch.Tensor], torch.Tensor]

_PIXELS = (1, 2, 3)


def l1_reg(factor: float = 1.0) -> Regularizer:
    """Mean absolute value.

    Parameters
    ----------
    factor
        Weight of the penalty.

    Returns
    -------
    regularizer
        (N, C, H, W) -> (N,): factor * mean(abs(images)). It raises ValueError for another shape.
    """

    def l1(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "l1_reg")
        return factor * images.abs().mean(_PIXELS)

    return l1


def l2_reg(factor: float = 1.0) -> Regularizer:
    """Root mean square.

    Parameters
    ----------
    factor
        Weight of the penalty.

    Returns
    -------
    regularizer
        (N, C, H, W) -> (N,): factor * sqrt(mean(images ** 2)), with gradient 0 (not NaN) for an
        image of zeros. It raises ValueError for another shape.
    """

    def l2(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "l2_reg")
        norm: torch.Tensor = torch.linalg.vector_norm(images, dim=_PIXELS)
        return factor * norm / math.sqrt(images[0].numel())

    return l2


def l_inf_reg(factor: float = 1.0) -> Regularizer:
    """Largest absolute value.

    Parameters
    ----------
    factor
        Weight of the penalty.

    Returns
    -------
    regularizer
        (N, C, H, W) -> (N,): factor * max(abs(images)); equal maxima share the gradient. It raises
        ValueError for another shape.
    """

    def l_inf(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "l_inf_reg")
        return factor * images.abs().amax(_PIXELS)

    return l_inf


def total_variation_reg(factor: float = 1.0) -> Regularizer:
    """Sum of the absolute differences of neighboring pixels.

    Parameters
    ----------
    factor
        Weight of the penalty.

    Returns
    -------
    regularizer
        (N, C, H, W) -> (N,): factor * the sum (not the mean) over both directions. It raises
        ValueError for another shape.
    """

    def total_variation(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "total_variation_reg")
        down = images.diff(dim=2).abs().sum(_PIXELS)
        right = images.diff(dim=3).abs().sum(_PIXELS)
        return factor * (down + right)

    return total_variation
