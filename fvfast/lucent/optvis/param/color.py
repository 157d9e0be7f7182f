"""From unbounded values to images in [0, 1]."""

from collections.abc import Callable

import torch

from fvfast.ops.colors import recorrelate_colors

ImageFunction = Callable[[], torch.Tensor]
"""Returns images (N, C, H, W); called once for each step."""

Parameters = tuple[list[torch.Tensor], ImageFunction]
"""What is optimized, and the image that it makes."""


def to_valid_rgb(image_f: ImageFunction, decorrelate: bool = False) -> ImageFunction:
    """Put an image through a sigmoid.

    Parameters
    ----------
    image_f
        Function without arguments that returns unbounded images (N, C, H, W).
    decorrelate
        Its colors are not correlated: give them the correlation of natural images first. This needs
        3 channels.

    Returns
    -------
    image_f
        Function without arguments that returns images with values in (0, 1).
    """

    def image() -> torch.Tensor:
        values = image_f()
        return torch.sigmoid(recorrelate_colors(values) if decorrelate else values)

    return image
