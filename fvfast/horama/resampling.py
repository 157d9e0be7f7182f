"""Crops as Horama makes them: averaged to twice the network's size, then reduced bicubically.

Horama calls torchvision's ``roi_align`` for twice the size and reduces the result with an
antialiased bicubic filter. Both are linear and separable, so a crop is ``rows @ image @ columns.T``
with one matrix for each axis, which holds both; only the pixels under the box take part.
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F

from fvfast.ops.reference.crop import roi_weights


def horama_crops(image: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut boxes out of an image and resample them as Horama does.

    Parameters
    ----------
    image
        (C, H, W), floating point.
    boxes
        (K, 4) as (y1, x1, y2, x2) in fractions of the image; they may reach outside, where the
        image is 0. Pixel i covers (i / H, (i + 1) / H), but is sampled at its beginning, which
        shifts crops by half a pixel, as ``roi_align(aligned=False)`` does.
    size
        (h, w) of the crops.

    Returns
    -------
    crops
        (K, C, h, w), of the image's type, differentiable once. The bicubic filter overshoots at
        edges, so values may leave the range of the image.
    """
    crops: torch.Tensor = _Resample.apply(image, boxes.detach(), size)
    return crops


class _Resample(torch.autograd.Function):
    """Products with the matrices of each box, and with their transposes."""

    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        _, height, width = image.shape
        # Positions are needed as numbers, to cut out what is under a box.
        ends = boxes.to("cpu", torch.float64)
        ctx.parts = [
            (_axis(y1, y2, size[0], height, image), _axis(x1, x2, size[1], width, image))
            for y1, x1, y2, x2 in ends
        ]
        ctx.shape = image.shape
        return torch.stack(
            [
                rows @ image[:, under.start : under.stop, beside.start : beside.stop] @ columns.T
                for (under, rows), (beside, columns) in ctx.parts
            ]
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: torch.Tensor) -> Any:
        total = gradients.new_zeros(ctx.shape)
        for gradient, ((under, rows), (beside, columns)) in zip(gradients, ctx.parts, strict=True):
            part = total[:, under.start : under.stop, beside.start : beside.stop]
            part += rows.T @ gradient @ columns
        return total, None, None


def _axis(
    start: torch.Tensor, stop: torch.Tensor, size: int, length: int, like: torch.Tensor
) -> tuple[range, torch.Tensor]:
    """Return which pixels of an axis a box reads, and with which weights (size, pixels)."""
    begin = start.item() * length
    end = begin + max((stop - start).item() * length, 1)  # as roi_align has it
    first = min(max(math.floor(begin), 0), length - 1)
    pixels = range(first, min(max(math.floor(end) + 2, first + 1), length))
    averages = roi_weights(start, stop, 2 * size, length, like.dtype, pixels)
    return pixels, (bicubic_reduction(size).to(like.dtype) @ averages).to(like.device)


@functools.lru_cache(maxsize=8)
def bicubic_reduction(size: int) -> torch.Tensor:
    """Weights (size, 2 size) of the antialiased bicubic filter, with aligned corners."""
    identity = torch.eye(2 * size, dtype=torch.float64, device="cpu")
    # The other axis keeps its size, and with it its values.
    reduced = F.interpolate(
        identity[None, None], (size, 2 * size), mode="bicubic", align_corners=True, antialias=True
    )
    return reduced[0, 0]
