"""Films of pictures: of a run, or of a path from one unit to another."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fvfast._shared.checks import check_finite, check_sorted_range
from fvfast.files.video import VideoWriter
from fvfast.plot.results import pictures_of

SLOWEST, FASTEST = 0.01, 1000.0
"""Pictures in a second that the formats of films can hold."""


def save_video(
    path: str | os.PathLike[str],
    images: Iterable[torch.Tensor] | Any,
    *,
    values_range: Sequence[float] | None = None,
    fps: float = 24.0,
) -> Path:
    """Write pictures as a film, one after the other.

    Parameters
    ----------
    path
        Path of the film, which ends in .mp4 or .gif; an existing one is replaced.
    images
        Pictures (C, H, W) of 1 or 3 channels and of one size, in a sequence or as one tensor
        (M, C, H, W); or what `fvfast.maco_batch` or ``maco(..., save_every=1)`` returns.
    values_range
        (low, high) of what is drawn black and white. Default: the lowest and highest value of all
        pictures.
    fps
        Pictures per second, from 0.01 to 1000.

    Returns
    -------
    path
        The path of the film.

    Raises
    ------
    ValueError
        There is no picture, one has another size or number of channels, ``fps`` is out of range, or
        the name ends in neither .mp4 nor .gif.
    TypeError
        ``fps`` is no number.
    ImportError
        The packages of ``fvfast[video]`` are not installed.
    OSError
        The file cannot be written.
    """
    fps = check_finite(fps, "fps")
    if not SLOWEST <= fps <= FASTEST:
        raise ValueError(f"fps must be above 0, from {SLOWEST:g} to {FASTEST:g}, got {fps:g}.")
    images = getattr(images, "image", images)  # of several steps, where maco has kept them
    frames, _, _ = pictures_of(images, None, None)
    pictures = [torch.as_tensor(frame).detach().float().cpu() for frame in frames]
    if not pictures:
        raise ValueError("save_video: there is no picture; expected at least one.")
    for picture in pictures:
        if (
            picture.ndim != 3
            or picture.shape[0] not in (1, 3)
            or picture.shape != pictures[0].shape
        ):
            first = tuple(pictures[0].shape)
            other = f", the first one {first}" if picture.shape != pictures[0].shape else ""
            raise ValueError(
                f"save_video: a picture has shape {tuple(picture.shape)}{other}; expected several "
                "pictures (C, H, W) of one size with 1 or 3 channels."
            )
    if values_range is None:
        low = min(picture.min().item() for picture in pictures)
        high = max(picture.max().item() for picture in pictures)
    else:
        low, high = check_sorted_range(values_range, "save_video")
    with VideoWriter(path, fps) as film:
        for picture in pictures:
            film.add(frame_of(picture, (low, high)))
    return film.path


def frame_of(picture: torch.Tensor, values_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a picture (C, H, W) of 1 or 3 channels as a frame (H, W, 3)."""
    low, high = values_range
    span = high - low
    scaled = (picture.detach().float().cpu() - low) / (span if span > 0 else 1.0)
    values = (scaled.clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())
