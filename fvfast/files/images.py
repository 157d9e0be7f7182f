"""Decodes image files of any origin within a limit of memory."""

import contextlib
import errno
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from fvfast.files.decoding_costs import decoding_bytes
from fvfast.files.memory_budget import MemoryBudget
from fvfast.files.reading import open_regular, reason

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of Pillow that are opened, whatever a file's name says.

All of them hold pixels that Pillow decodes within this process. Left out are formats that another
program renders (EPS runs Ghostscript) or the system (WMF), formats that need a registered decoder
(BUFR, GRIB, HDF5, MPEG), and formats that are not used for photographs.
"""
MEMORY = 3 * 2**28
"""Most bytes that images may take while they are decoded, in all threads together."""

# Larger than the blocks that the system's allocator keeps in each thread, so these are given back.
_RETURNED_BLOCK = 2**26
# Pillow logs errors of damaged files, which it also raises. Without a handler, Python prints them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def pillow_for_many() -> Iterator[None]:
    """Have Pillow return memory to the system and give no warnings while many images are decoded.

    These settings are global, so this belongs around all threads. Pillow would warn for each image
    of metadata that is not used here, such as EXIF entries. Others may warn.
    """
    core = Image.core  # type: ignore[attr-defined]
    usual = core.get_block_size()
    core.set_block_size(max(usual, _RETURNED_BLOCK))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            yield
    finally:
        core.set_block_size(usual)


def decode(
    content: Path | bytes, size: tuple[int, int], mode: str, budget: MemoryBudget
) -> NDArray[np.uint8]:
    """Decode an image, rotated as its EXIF data says, cropped around its center and resized.

    Parameters
    ----------
    content
        Path of the file, or what the file holds.
    size
        (H, W).
    mode
        "RGB", or "L" for gray.
    budget
        The budget from which the memory is reserved.

    Returns
    -------
    values
        (H, W, C), 0 to 255.

    Raises
    ------
    ValueError
        The file cannot be decoded: it is damaged, of another format, or too large. The message says
        why, on one line, without the path.
    """
    try:
        # First the header, which says how much memory the pixels need, then the pixels. Not both at
        # once: threads that hold one reservation and wait for another would deadlock.
        in_file = len(content) if isinstance(content, bytes) else content.stat().st_size
        header = in_file + PngImagePlugin.MAX_TEXT_MEMORY
        with budget.reserved(header), opened_image(content) as file:
            needed = decoding_bytes(file, in_file, size, budget.size)
        with budget.reserved(needed), opened_image(content) as file:
            # Again: it sets the size of a JPEG, and the file may have changed in the meantime.
            decoding_bytes(file, in_file, size, needed)
            return fit(file, size, mode)
    except Exception as error:
        # Pillow's decoders may raise any exception for damaged files.
        raise ValueError(reason(error)) from error


@contextlib.contextmanager
def opened_image(content: Path | bytes) -> Iterator[ImageFile.ImageFile]:
    """Open an image file of one of `FORMATS`, without reading its pixels.

    Parameters
    ----------
    content
        Path of the file, or what the file holds.

    Raises
    ------
    OSError
        The file cannot be read, or has none of these formats (`PIL.UnidentifiedImageError`).
    ValueError
        It is not a regular file.
    """
    with _opened(content) as file:
        try:
            image = Image.open(file, formats=_known_formats())
        except UnidentifiedImageError as error:
            text = f"damaged, or of another format than {', '.join(FORMATS)}"
            name = str(content) if isinstance(content, Path) else ""
            raise UnidentifiedImageError(errno.EINVAL, text, name) from error
        with image:
            yield image


def _opened(content: Path | bytes) -> BinaryIO:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    return cast(BinaryIO, io.BufferedReader(open_regular(content)))


@functools.cache
def _known_formats() -> list[str]:
    Image.init()
    # Pillow refuses names that it does not know, and older versions do not know AVIF.
    return [name for name in FORMATS if name in Image.OPEN]


def fit(file: Image.Image, size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    """Rotate an image as its EXIF data says, in place, crop it around its center and resize it.

    Parameters
    ----------
    file
        The image.
    size, mode
        As in `decode`.

    Returns
    -------
    values
        (H, W, C), 0 to 255.

    Raises
    ------
    ValueError
        Its pixels have more than 8 bits.
    """
    if file.mode.startswith(("I", "F")):
        # Pillow would clip the values at 255 instead of scaling them.
        raise ValueError(f"{file.mode} pixels have more than 8 bits")
    height, width = size
    ImageOps.exif_transpose(file, in_place=True)
    image = file if file.mode == mode else file.convert(mode)
    fitted = ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)
    return np.array(fitted, dtype=np.uint8).reshape(height, width, len(mode))
