"""Argument checks that several modules share: the same mistake reads the same everywhere."""

from collections.abc import Sequence

import torch


def check_images(images: torch.Tensor, function: str) -> None:
    """Raise ValueError unless ``images`` is a batch (N, C, H, W) without an empty dimension."""
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"{function}: images have shape {tuple(images.shape)}; expected (N, C, H, W) with C, "
            "H, W >= 1. Add the batch dimension with images[None] or move the channels forward "
            "with images.permute(0, 3, 1, 2)."
        )


def check_size(height: int, width: int, function: str) -> None:
    """Raise ValueError unless an image of this size has a spectrum beside its mean."""
    if height < 2 or width < 2:
        raise ValueError(
            f"{function}: the image size is {height} x {width} (height x width); expected at "
            "least 2 x 2."
        )


def check_values_range(values_range: Sequence[float], function: str) -> tuple[float, float]:
    """Return (low, high) as floats; raise ValueError unless low < high and both are finite."""
    if len(values_range) == 2:
        low, high = float(values_range[0]), float(values_range[1])
        if -float("inf") < low < high < float("inf"):
            return low, high
    raise ValueError(
        f"{function}: values_range is {tuple(values_range)}; expected two finite numbers "
        "(low, high) with low < high, such as (0, 1) or (-1, 1)."
    )
