"""Argument checks that several modules share: the same mistake gets the same message everywhere."""

import operator
import re
from collections.abc import Sequence
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import torch

LARGEST_FLOAT32 = float(torch.finfo(torch.float32).max)

ImageSize = Sequence[int] | int | str | None
"""The size of images as a user gives it: see `check_image_size`."""

_MULTIPLE = re.compile(r"([1-9]\d?)x", re.ASCII)


def is_number(value: object) -> bool:
    """Whether a value can weigh an objective: an int or a float, of Python or numpy."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def check_images(images: torch.Tensor, function: str) -> None:
    """Raise ValueError unless ``images`` is a batch (N, C, H, W) without an empty dimension."""
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(
            f"{function}: images have shape {tuple(images.shape)}; expected (N, C, H, W) with C, "
            "H, W >= 1. Add the batch dimension with images[None] or move the channels forward "
            "with images.permute(0, 3, 1, 2)."
        )


def check_size(height: int, width: int, function: str) -> None:
    """Raise ValueError unless the spectrum of an image of this size has more than the mean."""
    if height < 2 or width < 2:
        raise ValueError(
            f"{function}: the image size is {height} x {width} (height x width); expected at "
            "least 2 x 2."
        )


def finite_float32(value: Any) -> float | None:
    """Return a number as a float; None if it is not finite in float32."""
    try:
        number = float(value)
    except OverflowError:  # of an integer
        return None
    return number if abs(number) <= LARGEST_FLOAT32 else None


def check_values_range(values_range: Sequence[float], function: str) -> tuple[float, float]:
    """Return (low, high) as floats.

    Raises
    ------
    ValueError
        Unless low < high, and both and their difference are finite in float32.
    """
    if len(values_range) == 2:
        low, high = map(finite_float32, values_range)
        if low is not None and high is not None and _is_range_of_float32(low, high):
            return low, high
    raise ValueError(
        f"{function}: values_range is {tuple(values_range)}; expected two finite numbers "
        "(low, high) with low < high, such as (0, 1) or (-1, 1). Images are float32: the two "
        "differ in it, by at most 3.4e38."
    )


def _is_range_of_float32(low: float, high: float) -> bool:
    ends = torch.tensor([low, high], dtype=torch.float32, device="cpu")
    return bool(ends[0] < ends[1]) and bool((ends[1] - ends[0]).isfinite())


def check_count(value: Any, name: str, smallest: int) -> int:
    """Return a count as an int; raise TypeError or ValueError if it is below ``smallest``."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    count = operator.index(value)
    if count < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {count}.")
    return count


def check_seed(seed: Any) -> int:
    """Return a seed as an int; raise TypeError unless it is one."""
    if not isinstance(seed, SupportsIndex) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer, got {seed!r}.")
    return operator.index(seed)


def check_finite(value: Any, name: str) -> float:
    """Return a number as a float; raise TypeError or ValueError unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    number = finite_float32(value)
    if number is None:
        raise ValueError(f"{name} must be finite, in float32, got {value}.")
    return number


def check_image_size(
    custom_shape: Any, model_size: Sequence[int], function: str
) -> tuple[int, int]:
    """Return (height, width): ``custom_shape``, a square for one number, or the model's size.

    A text such as "2x" is a multiple of the model's size.
    """
    if custom_shape is None:
        custom_shape = model_size
    elif isinstance(custom_shape, str) and (times := _MULTIPLE.fullmatch(custom_shape)):
        custom_shape = [int(times[1]) * size for size in model_size]
    sizes = [custom_shape] * 2 if isinstance(custom_shape, SupportsIndex) else custom_shape
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) != 2:
        raise ValueError(
            f"{function}: custom_shape must be (height, width), one number for a square, None for "
            f'the model\'s input size or a text such as "2x" for twice that, got {custom_shape!r}; '
            "the number of channels is the model's."
        )
    height, width = (check_count(size, f"{function}: custom_shape", 1) for size in sizes)
    check_size(height, width, function)
    return height, width


def check_sorted_range(values_range: Any, function: str) -> tuple[float, float]:
    """Return (low, high), sorted, as `check_values_range` does."""
    try:
        ends = sorted(float(end) for end in values_range)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{function}: values_range must be two numbers (low, high), got {values_range!r}."
        ) from error
    return check_values_range(ends, function)


def check_callback(callback: Any, name: str = "callback") -> None:
    """Raise TypeError unless a callback is a function or None."""
    if callback is not None and not callable(callback):
        raise TypeError(f"{name} must be a function or None, got {callback!r}.")
