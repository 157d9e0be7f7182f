"""Refuses a run that the memory does not hold before it starts, not in the middle."""

import math
from collections.abc import Sequence

import torch

from fvfast.engine.memory import available_memory, free_memory

_TENSORS_PER_IMAGE = 5
"""Tensors as large as an image that a run has of each, at least.

The state, a copy of it from before the step, and two averages of its gradient, each of which takes
half as much as the image with MaCo and as much otherwise; the image, its gradient and, with MaCo,
its transparency.
"""

_TENSORS_PER_VIEW = 2
"""The view and its gradient. What the network keeps of a view shows only in the run."""


SMALL = 2**28
"""Bytes that are never refused: the system may give more than it says is free."""


def missing_room(needed: int, device: torch.device) -> int | None:
    """Return the free bytes if they are too few; None if they suffice, or may."""
    return None if needed <= SMALL else free_bytes(needed, device)


def free_bytes(needed: int, device: torch.device) -> int | None:
    """Return the free bytes if they are known and too few; None otherwise."""
    free = available_memory(device)
    if free is None or needed <= free:
        return None
    free_memory(device)
    free = available_memory(device)
    return None if free is None or needed <= free else free


def check_room(
    function: str,
    device: torch.device,
    images: int,
    image_shape: Sequence[int],
    views: int,
    view_shape: Sequence[int],
    view_dtype: torch.dtype = torch.float32,
) -> None:
    """Raise OutOfMemoryError if a run cannot fit the memory.

    Parameters
    ----------
    function
        What the message begins with.
    device
        Where it runs.
    images
        Images that are optimized together.
    image_shape, view_shape
        (C, H, W).
    views
        Of each image.
    view_dtype
        The smallest type that they may have.

    Raises
    ------
    torch.OutOfMemoryError
        With the memory that it would take at least, and what is free.
    """
    of_images = images * _TENSORS_PER_IMAGE * math.prod(image_shape) * torch.float32.itemsize
    of_views = images * views * _TENSORS_PER_VIEW * math.prod(view_shape) * view_dtype.itemsize
    free = missing_room(of_images + of_views, device)
    if free is not None:
        raise torch.OutOfMemoryError(
            f"{function}: {gibibytes(of_images)} for {images} x {_sizes(image_shape)} pixels and "
            f"{gibibytes(of_views)} for {images * views} x {_sizes(view_shape)} views are needed "
            f"at least, but {gibibytes(free)} are free on {device}: ask for smaller images "
            "(custom_shape), fewer crops (nb_crops) or fewer images at a time (batch_size)."
        )


def check_kept_images(
    function: str, save_every: int, nb_steps: int, images: int, shape: Sequence[int], each: int
) -> None:
    """Raise OutOfMemoryError if a run would keep more images than the memory holds.

    Parameters
    ----------
    function
        What the message begins with.
    save_every, nb_steps
        Of the run.
    images
        Images that are optimized together.
    shape
        (C, H, W).
    each
        Tensors that are kept of each: the image, perhaps its transparency.

    Raises
    ------
    torch.OutOfMemoryError
        With the memory that it would take, and what is free.
    """
    times = -(-nb_steps // save_every)
    needed = times * images * each * math.prod(shape) * torch.float32.itemsize
    free = missing_room(needed, torch.device("cpu"))
    if free is not None:
        raise torch.OutOfMemoryError(
            f"{function}: save_every={save_every} keeps {times * images} images of "
            f"{_sizes(shape)} in {nb_steps} steps, {gibibytes(needed)}, but {gibibytes(free)} are "
            "free: keep fewer (save_every), or write each in a callback (report.images)."
        )


def gibibytes(count: float) -> str:
    """Write a number of bytes in GiB."""
    return f"{count / 2**30:.3g} GiB"


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
