"""The image of a pyramid in plain PyTorch.

Resampling is linear and separable: a level is enlarged to ``rows @ level @ columns.T`` with two
matrices of weights, which on a GPU is the same in every run; `torch.nn.functional.interpolate` is
not, on the way back.
"""

from collections.abc import Sequence

import torch

from fvfast.ops.colors import recorrelate_colors


def pyramid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the levels of an image's pyramid.

    Parameters
    ----------
    height, width
        Of the image, each at least 1.

    Returns
    -------
    sizes
        (height, width) of each level, the coarsest first. The last is that of the image, and each
        before it half of it, rounded up, down to (1, 1).
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > 1:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes[::-1]


def level_weights(length: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Bilinear weights (length, size) with which an axis of a level is enlarged.

    Pixel centers lie at half integers, as with ``align_corners=False``, and what would lie beyond
    the centers of the outermost elements is as they are.
    """
    pixels = torch.arange(length, device=like.device)
    # Whole numbers, times 2 * length: the positions have no rounding error.
    place = ((2 * pixels + 1) * size - length).clamp(min=0)
    lower = place.div(2 * length, rounding_mode="floor")
    upper = (lower + 1).clamp(max=size - 1)
    remainder = (place - lower * 2 * length).to(like.dtype)
    # By a tensor: on a GPU, torch divides by a number by multiplying with its inverse.
    share = (remainder / torch.full_like(remainder, 2 * length))[:, None]
    elements = torch.arange(size, device=like.device)
    weights = (elements == lower[:, None]) * (1 - share)
    return weights + (elements == upper[:, None]) * share


def sum_of_levels(
    pyramid: torch.Tensor, size: Sequence[int], levels: int | None = None
) -> torch.Tensor:
    """Sum of the levels, each enlarged to the size of the image.

    Parameters
    ----------
    pyramid
        (..., P): see `fvfast.ops.pyramid_to_image`.
    size
        (H, W).
    levels
        How many take part, the coarsest ones. Default: all.

    Returns
    -------
    sums
        (..., H, W).
    """
    height, width = size
    sizes = pyramid_sizes(height, width)
    parts = pyramid.split([rows * columns for rows, columns in sizes], dim=-1)
    sums = pyramid.new_zeros(*pyramid.shape[:-1], height, width)
    for part, own in zip(parts[:levels], sizes[:levels], strict=True):
        level = part.unflatten(-1, own)
        rows, columns = level_weights(height, own[0], level), level_weights(width, own[1], level)
        sums = sums + torch.einsum("yi,...ij,xj->...yx", rows, level, columns)
    return sums


def pyramid_to_image_reference(
    pyramid: torch.Tensor, size: Sequence[int], levels: int, low: float, high: float, gain: float
) -> torch.Tensor:
    """Image of a pyramid: see `fvfast.ops.pyramid_to_image`.

    Parameters
    ----------
    pyramid
        (N, C, P), float32 or float64.
    size
        (H, W).
    levels
        How many take part, the coarsest ones.
    low, high
        Range of the image.
    gain
        Factor of the sum of the levels.

    Returns
    -------
    image
        (N, C, H, W), differentiable any number of times.
    """
    sums = gain * sum_of_levels(pyramid, size, levels)
    if sums.shape[-3] == 3:
        sums = recorrelate_colors(sums)
    return sums.sigmoid() * (high - low) + low
