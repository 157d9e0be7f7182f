"""Cuts what a unit sees out of an image."""

import io

from PIL import Image

from fvfast.atlas.examples.fields import Box
from fvfast.atlas.examples.pixels import Pixels

_QUALITY = 90


def cropped(pixels: Pixels, box: Box) -> Image.Image:
    """Cut a box out of an image (H, W, C)."""
    top, left, bottom, right = box
    part = pixels[top:bottom, left:right]
    return Image.fromarray(part[:, :, 0] if part.shape[2] == 1 else part)


def crop_file(pixels: Pixels, box: Box) -> bytes:
    """Return a crop as a WebP file."""
    file = io.BytesIO()
    cropped(pixels, box).save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()
