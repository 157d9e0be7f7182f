"""Brings an image of any kind into the size that a network takes, as pixels of 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fvfast.atlas.examples.samples import Sample, UnreadableError
from fvfast.files.images import decode, fit
from fvfast.files.memory_budget import MemoryBudget

Pixels = NDArray[np.uint8]
MODES = {1: "L", 3: "RGB"}
"""Pillow's names of the images that a network with this many channels takes."""


def load_pixels(sample: Sample, size: tuple[int, int], mode: str, budget: MemoryBudget) -> Pixels:
    """Load an image, crop it around its center to the aspect of a size, and resize it to that.

    Parameters
    ----------
    sample
        The image.
    size
        (H, W).
    mode
        One of `MODES`.
    budget
        The memory that threads may use together to decode files.

    Returns
    -------
    pixels
        (H, W, C), 0 to 255.

    Raises
    ------
    UnreadableError
        The image is damaged, too large, or not an image of 8 bits.
    TypeError
        The source gave something that is no image at all.
    """
    content = sample.load()
    try:
        if isinstance(content, (Path, bytes)):
            return decode(content, size, mode, budget)
        return fit(_image(content), size, mode)
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _image(content: Any) -> Image.Image:
    if isinstance(content, Image.Image):
        try:
            return content.copy()  # what follows may rotate it in place
        except (OSError, SyntaxError) as error:  # of a file that Pillow has opened only
            raise UnreadableError(str(error)) from error
    if isinstance(content, torch.Tensor):
        values = content.detach().cpu()
        array = (values.movedim(0, -1) if values.ndim == 3 else values).numpy()
    elif isinstance(content, np.ndarray):
        array = content
    else:
        raise TypeError(
            f"an image is a {type(content).__name__}; expected a PIL image, an array (H, W, C), or "
            "a tensor (C, H, W)."
        )
    return _image_of_array(array)


def _image_of_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if 0 in array.shape or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise UnreadableError(
            f"shape {array.shape} of an array or, with its channels moved last, of a tensor; "
            "expected (H, W) or (H, W, C) with 1, 3 or 4 channels"
        )
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise UnreadableError(
                f"values from {low:g} to {high:g}; expected 0 to 1, as before any normalization"
            )
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise UnreadableError(f"{array.dtype}; expected uint8, or floats from 0 to 1")
    return Image.fromarray(np.ascontiguousarray(array))
