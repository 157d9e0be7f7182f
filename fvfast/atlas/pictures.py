"""Encodes pictures: the plain picture, and its transparency beside it."""

import io
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fvfast.plot import blend_transparency

# Level 6 takes three times as long as level 2 for files that are 6 % smaller.
_COMPRESSION = 2


class EncodedPicture(NamedTuple):
    """Two PNG files.

    Attributes
    ----------
    picture
        The plain picture, RGB or gray, opaque.
    transparency
        What multiplies as alpha, gray.
    width, height
        Of both.
    """

    picture: bytes
    transparency: bytes
    width: int
    height: int


def encode_picture(image: torch.Tensor, transparency: torch.Tensor) -> EncodedPicture:
    """Encode an image (C, H, W) and its transparency, as `fvfast.plot.plot_maco` shows them."""
    # This style leaves the colors as they are beneath the opacity.
    rgba = blend_transparency(image, transparency, style="horama")
    values = np.rint(rgba * 255.0).astype(np.uint8)
    colors = values[..., :3] if len(image) == 3 else values[..., 0]
    height, width = values.shape[:2]
    return EncodedPicture(_png(colors), _png(values[..., 3]), width, height)


def _png(values: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="PNG", compress_level=_COMPRESSION)
    return file.getvalue()
