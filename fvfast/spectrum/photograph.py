"""A photograph as the image that a network takes: of a file, a PIL image, an array or a tensor."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fvfast.files.images import MEMORY, decode, fit
from fvfast.files.memory_budget import MemoryBudget
from fvfast.spectrum.natural import fitted

ImageShape = tuple[int, int, int]
"""(C, H, W)."""

PhotographSource = str | os.PathLike[str] | Image.Image | NDArray[Any] | torch.Tensor
"""What a user gives as photograph: see `read_photograph`."""

_SLACK = 1e-3
"""Part of the range by which values may leave it: resampled and normalized images do."""


def check_photograph(source: Any, function: str) -> None:
    """Raise TypeError unless a photograph can be made of a value."""
    if not isinstance(source, (str, os.PathLike, Image.Image, np.ndarray, torch.Tensor)):
        raise TypeError(
            f"{function}: the photograph must be the path of a file, a PIL image, an array (H, W, "
            f"C) or a tensor (C, H, W), got {type(source).__name__}."
        )


def read_photograph(
    source: PhotographSource, shape: ImageShape, values_range: Sequence[float], function: str
) -> torch.Tensor:
    """Return a photograph, cropped around its center to the aspect of a shape, and resized.

    Parameters
    ----------
    source
        Path of a file of one of `fvfast.files.images.FORMATS`; a PIL image; an array (H, W, C) or
        (H, W) of 8-bit values or of values in [0, 1]; or a tensor (C, H, W) of 8-bit values or of
        values in ``values_range``.
    shape
        (C, H, W). Files and PIL images are read in gray where C is 1.
    values_range
        (low, high) of the result.
    function
        What messages begin with.

    Returns
    -------
    photograph
        (C, H, W), float32, in ``values_range``, on the CPU.

    Raises
    ------
    OSError
        There is no such file.
    ValueError
        The file is no image, or the values or the number of channels do not fit.
    TypeError
        The source is something else.
    """
    check_photograph(source, function)
    low, high = values_range
    if isinstance(source, torch.Tensor) and source.dtype == torch.uint8 and source.ndim == 3:
        if shape[0] in _MODES and source.shape[0] not in _SHOWN_CHANNELS:
            raise ValueError(
                f"{function}: the photograph is a tensor of shape {tuple(source.shape)}; expected "
                "(C, H, W) with 1, 3 or 4 channels."
            )
        source = source.detach().cpu().permute(1, 2, 0).numpy()
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and shape[0] in _MODES:
        source = _as_pil(source, function)
    if isinstance(source, torch.Tensor):
        image, first, last = _of_tensor(source, (low, high), function)
    elif isinstance(source, np.ndarray):
        image, first, last = _of_array(source, function)
    else:
        image, first, last = _of_pixels(source, shape, function)
    if image.shape[0] != shape[0]:
        channels = "1 channel" if image.shape[0] == 1 else f"{image.shape[0]} channels"
        raise ValueError(
            f"{function}: the photograph has {channels}, and the images have {shape[0]}."
        )
    smallest, largest = image.min().item(), image.max().item()
    slack = _SLACK * (last - first)
    if not first - slack <= smallest <= largest <= last + slack:
        raise ValueError(
            f"{function}: the photograph has values from {smallest:g} to {largest:g}; expected "
            f"{first:g} to {last:g}. A tensor has the values that the model takes (values_range), "
            "an array of floating point values those from 0 to 1."
        )
    resized = fitted(image.double()[None], shape[1:])[0].clamp(first, last)
    return (low + (resized - first) / (last - first) * (high - low)).float()


_MODES = {1: "L", 3: "RGB"}
"""The modes of Pillow with as many channels as the images."""

_SHOWN_CHANNELS = (1, 3, 4)
"""Gray, colors, and colors with an alpha channel."""

_Read = tuple[torch.Tensor, float, float]
"""An image (C, H, W), and the range of its values."""


def _of_tensor(source: torch.Tensor, values_range: tuple[float, float], function: str) -> _Read:
    image = source.detach().cpu()
    if image.ndim != 3 or image.numel() == 0:
        raise ValueError(
            f"{function}: the photograph is a tensor of shape {tuple(source.shape)}; expected "
            "(C, H, W)."
        )
    return (image, 0, 255) if image.dtype == torch.uint8 else (image, *values_range)


def _as_pil(array: NDArray[np.uint8], function: str) -> Image.Image:
    """Make an image of 8-bit values, gray, in colors or with an alpha channel."""
    if array.size == 0 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _SHOWN_CHANNELS)
    ):
        raise ValueError(
            f"{function}: the photograph is an array of shape {array.shape}; expected (H, W, C) "
            "with 1, 3 or 4 channels, or (H, W)."
        )
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(flat))


def _of_array(source: NDArray[Any], function: str) -> _Read:
    array = source[..., None] if source.ndim == 2 else source
    if array.ndim != 3 or array.size == 0 or array.shape[2] > array.shape[0] > 0:
        raise ValueError(
            f"{function}: the photograph is an array of shape {source.shape}; expected (H, W, C) "
            "or (H, W)."
        )
    image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0)))
    return image, 0, 255 if array.dtype == np.uint8 else 1


def _of_pixels(
    source: str | os.PathLike[str] | Image.Image, shape: ImageShape, function: str
) -> _Read:
    if shape[0] not in _MODES:
        raise ValueError(
            f"{function}: files and PIL images have 1 or 3 channels, and the images have "
            f"{shape[0]}: give a tensor ({shape[0]}, H, W)."
        )
    name = "" if isinstance(source, Image.Image) else f" {os.fspath(source)}"
    try:
        if isinstance(source, Image.Image):
            values = fit(source.copy(), shape[1:], _MODES[shape[0]])
        else:
            path = Path(source)
            path.stat()  # says if there is no such file
            values = decode(path, shape[1:], _MODES[shape[0]], MemoryBudget(MEMORY))
    except ValueError as error:
        raise ValueError(f"{function}: the photograph{name} cannot be read: {error}") from error
    return torch.from_numpy(np.moveaxis(values, -1, 0).copy()), 0, 255
