"""Says before a run that the memory does not hold it, not in the middle of one."""

import math
from collections.abc import Callable, Sequence

import torch

from fvfast.engine.memory import available_memory, free_memory

_OF_AN_IMAGE = 5
"""Tensors as large as an image that a run has of each, at least.

What is optimized, as it was before the step, and two averages of its gradient, each of which takes
half as much as the image with MaCo and as much otherwise; the image, its gradient and, with MaCo,
its transparency.
"""

_OF_A_VIEW = 2
"""Of each view: itself and its gradient. What the network keeps of one is found out in the run."""

Available = Callable[[torch.device], int | None]
"""Says how many bytes are free on a device, or None."""

SMALL = 2**28
"""Bytes that are never refused: what is said to be free may be less than what the system gives."""


def missing_room(
    needed: int, device: torch.device, available: Available = available_memory
) -> int | None:
    """Return what is free where it does not hold what is needed; None where it does, or may."""
    return None if needed <= SMALL else free_bytes(needed, device, available)


def free_bytes(
    needed: int, device: torch.device, available: Available = available_memory
) -> int | None:
    """Return what is free, where that is less than what is needed and known; None otherwise."""
    free = available(device)
    if free is None or needed <= free:
        return None
    free_memory(device)
    free = available(device)
    return None if free is None or needed <= free else free


def check_room(
    function: str,
    device: torch.device,
    images: int,
    image_shape: Sequence[int],
    views: int,
    view_shape: Sequence[int],
    view_dtype: torch.dtype = torch.float32,
    available: Available = available_memory,
) -> None:
    """Refuse a run that cannot fit the memory.

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
    available
        Says what is free.

    Raises
    ------
    torch.OutOfMemoryError
        With the memory that it would take at least, and what is free.
    """
    of_images = images * _OF_AN_IMAGE * math.prod(image_shape) * torch.float32.itemsize
    of_views = images * views * _OF_A_VIEW * math.prod(view_shape) * view_dtype.itemsize
    free = missing_room(of_images + of_views, device, available)
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
    """Refuse to keep more images of a run than the memory holds.

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
    """Write a number of bytes."""
    return f"{count / 2**30:.3g} GiB"


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
