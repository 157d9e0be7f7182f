"""Checks that the memory suffices for a run before the run begins."""

import math
from collections.abc import Callable, Sequence

import torch

from fvfast.engine.memory import available_memory, free_memory

_OF_AN_IMAGE = 5
"""The least number of tensors of an image's size that a run holds for each image.

The state, its values before the step, and two averages of its gradient: each takes half as much as
the image with MaCo's phases, a third more with a pyramid, and as much otherwise. Then the image,
its gradient and, with MaCo, its transparency.
"""

_OF_A_VIEW = 2
"""Tensors for each view: itself and its gradient. The run measures what the network keeps."""

Available = Callable[[torch.device], int | None]
"""Tells how many bytes are free on a device; None if that is unknown."""

SMALL = 2**28
"""Requests of up to this many bytes are never refused: the system may give more than it reports."""


def insufficient_memory(
    needed: int, device: torch.device, available: Available = available_memory
) -> int | None:
    """Return the free bytes if they are fewer than needed; None if they suffice, or may suffice."""
    return None if needed <= SMALL else free_bytes(needed, device, available)


def free_bytes(
    needed: int, device: torch.device, available: Available = available_memory
) -> int | None:
    """Return the free bytes if they are known and fewer than needed; None otherwise."""
    free = available(device)
    if free is None or needed <= free:
        return None
    free_memory(device)
    free = available(device)
    return None if free is None or needed <= free else free


def check_run_fits(
    function: str,
    device: torch.device,
    images: int,
    image_shape: Sequence[int],
    views: int,
    view_shape: Sequence[int],
    view_dtype: torch.dtype = torch.float32,
    available: Available = available_memory,
) -> None:
    """Raise OutOfMemoryError if a run cannot fit the memory.

    Parameters
    ----------
    function
        What the message begins with.
    device
        Where it runs.
    images
        Number of images that are optimized together.
    image_shape, view_shape
        (C, H, W).
    views
        Number of views of each image.
    view_dtype
        The smallest type that the views may have.
    available
        Tells how many bytes are free.

    Raises
    ------
    torch.OutOfMemoryError
        Less memory is free than the run needs at least.
    """
    of_images = images * _OF_AN_IMAGE * math.prod(image_shape) * torch.float32.itemsize
    of_views = images * views * _OF_A_VIEW * math.prod(view_shape) * view_dtype.itemsize
    free = insufficient_memory(of_images + of_views, device, available)
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
        Settings of the run.
    images
        Number of images that are optimized together.
    shape
        (C, H, W).
    each
        Tensors that are kept of each image: the image, perhaps its transparency.

    Raises
    ------
    torch.OutOfMemoryError
        Less memory is free than the images take.
    """
    times = -(-nb_steps // save_every)
    needed = times * images * each * math.prod(shape) * torch.float32.itemsize
    free = insufficient_memory(needed, torch.device("cpu"))
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
