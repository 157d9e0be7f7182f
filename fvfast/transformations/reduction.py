"""Shows a network the whole of an image: every pixel of it counts, however large it is."""

import torch

from fvfast._shared.checks import check_images
from fvfast.transformations.steps import Resize, resize

_BILINEAR = 2
"""Up to this many times the size, bilinear resizing reads all pixels, and at it, it averages."""


def resize_whole(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize as `resize` does, but average over what is more than twice as large.

    Bilinear resizing reads two pixels along each axis. Of an image of 64 x 64 for a network of
    8 x 8 these are one sixteenth of all: an optimization would change those alone, to dots. Of
    antialiasing filters, the mean over the area of a pixel is the narrowest, and blurs the least.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    size
        (H', W') of the result, each at least 1.

    Returns
    -------
    images
        (N, C, H', W').
    """
    check_images(images, "resize_whole")
    lengths = (images.shape[2], images.shape[3])
    if all(length <= _BILINEAR * count for length, count in zip(lengths, size, strict=True)):
        return resize(images, size)
    # Products with matrices have gradients that are the same each time, on a GPU, too.
    rows, columns = (_weights(lengths[axis], size, axis).to(images) for axis in (0, 1))
    return rows @ images @ columns.mT


def _weights(length: int, size: tuple[int, int], axis: int) -> torch.Tensor:
    """Return how the pixels along an axis are made of those of the image: (count, length)."""
    count = size[axis]
    if length <= _BILINEAR * count:
        one = torch.eye(length, dtype=torch.float64, device="cpu")
        return Resize(size).along(axis, one[None])[0]
    edges = torch.arange(count + 1, dtype=torch.float64, device="cpu") * (length / count)
    pixels = torch.arange(length, dtype=torch.float64, device="cpu")
    last = torch.minimum(edges[1:, None], pixels + 1)
    shared = (last - torch.maximum(edges[:-1, None], pixels)).clamp(min=0)
    return shared / shared.sum(1, keepdim=True)
