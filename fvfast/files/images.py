"""Decodes image files of any origin, with a bound on the memory that they take."""

import contextlib
import errno
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from fvfast.files.decoding_costs import decoding_bytes
from fvfast.files.memory_budget import MemoryBudget
from fvfast.files.reading import open_regular, reason

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of Pillow that are opened, whatever a file's name says.

They hold pixels, which Pillow decodes within this process. Not among them: formats that other
programs draw (EPS runs Ghostscript), that the system draws (WMF), that leave decoding to whoever
has registered for them (BUFR, GRIB, HDF5, MPEG), and those of no photographs.
"""
MEMORY = 3 * 2**28
"""Bytes that images may take while they are decoded, all threads together."""

# Larger than what the system's allocator keeps for later, in each thread: it gives those back.
_RETURNED_BLOCK = 2**26
# What Pillow logs of damaged files is raised as well. Without a handler, Python prints it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def pillow_for_many() -> Iterator[None]:
    """Have Pillow give back memory and warn of nothing, in all threads, while many are decoded.

    Around all threads, because these settings are those of the process. Libraries warn of metadata,
    such as EXIF entries, that nothing is made of here, and of each image anew.
    """
    core = Image.core  # type: ignore[attr-defined]
    usual = core.get_block_size()
    core.set_block_size(max(usual, _RETURNED_BLOCK))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        core.set_block_size(usual)


def decode(path: Path, size: tuple[int, int], mode: str, budget: MemoryBudget) -> NDArray[np.uint8]:
    """Decode an image, rotated as its EXIF data says, cropped around its center and resized.

    Parameters
    ----------
    path
        Path of the file.
    size
        (H, W).
    mode
        "RGB", or "L" for gray.
    budget
        What the memory is taken from.

    Returns
    -------
    values
        (H, W, C), 0 to 255.

    Raises
    ------
    ValueError
        The file cannot be decoded: damaged, of another format, too large. The message says why, on
        one line, without the path.
    """
    try:
        # What the header says decides how much memory the pixels need. Not both at once: threads
        # that hold a part and wait for another one would wait for each other.
        in_file = path.stat().st_size
        with budget.reserved(in_file + PngImagePlugin.MAX_TEXT_MEMORY), opened_image(path) as file:
            needed = decoding_bytes(file, in_file, size, budget.size)
        with budget.reserved(needed), opened_image(path) as file:
            # Reduces a JPEG, and the file may have become another one.
            decoding_bytes(file, in_file, size, needed)
            return _fitted(file, size, mode)
    except Exception as error:
        # Pillow names no errors of damaged files: any may come out of its decoders.
        raise ValueError(reason(error)) from error


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Open an image file of one of `FORMATS`, without its pixels.

    Raises
    ------
    OSError
        The file cannot be read, or has none of these formats (`PIL.UnidentifiedImageError`).
    ValueError
        It is no regular file.
    """
    with io.BufferedReader(open_regular(path)) as file:
        try:
            image = Image.open(file, formats=_known_formats())
        except UnidentifiedImageError as error:
            text = f"damaged, or of another format than {', '.join(FORMATS)}"
            raise UnidentifiedImageError(errno.EINVAL, text, str(path)) from error
        with image:
            yield image


@functools.cache
def _known_formats() -> list[str]:
    Image.init()
    # Pillow takes no names that it does not know, and AVIF came late.
    return [name for name in FORMATS if name in Image.OPEN]


def _fitted(file: ImageFile.ImageFile, size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    if file.mode.startswith(("I", "F")):
        # Pillow would cut these off at 255 instead of scaling them.
        raise ValueError(f"{file.mode} pixels have more than 8 bits")
    height, width = size
    ImageOps.exif_transpose(file, in_place=True)
    image = file if file.mode == mode else file.convert(mode)
    fitted = ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)
    return np.array(fitted, dtype=np.uint8).reshape(height, width, len(mode))
