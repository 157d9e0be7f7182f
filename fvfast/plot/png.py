"""Writes visualizations as PNG files, with the settings they were made with as text entries."""

import bisect
import contextlib
import math
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from fvfast._shared.messages import printable, shortened
from fvfast._shared.version import VERSION
from fvfast.files.decoding_costs import decoding_bytes
from fvfast.files.images import MEMORY, opened_image
from fvfast.files.reading import reason
from fvfast.files.writing import replacing
from fvfast.plot.plotting import Style, blend_transparency, check_lengths, grid_columns
from fvfast.plot.results import guide_of, picture_of

_THUMBNAIL = 320
_MARGIN = 12
_FONT_SIZE = 18
_LINE = 24
_MOST_LINES = 10
# Latin-1 without control characters, and without leading, trailing or consecutive spaces.
_KEYWORD = re.compile(r"(?=.{1,79}$)[!-~\xa1-\xff]+(?: [!-~\xa1-\xff]+)*")


def save_png(
    path: str | os.PathLike[str],
    image: torch.Tensor | ArrayLike,
    alpha: torch.Tensor | ArrayLike | None = None,
    *,
    percentile_image: float = 1.0,
    percentile_alpha: float = 80.0,
    style: Style = "xplique",
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a picture as an 8-bit PNG, with its transparency as the alpha channel.

    The file appears under its name only when it is complete; an existing file is replaced. Missing
    folders are created.

    Parameters
    ----------
    path
        Path of the file, used as it is.
    image, alpha, percentile_image, percentile_alpha, style
        See `fvfast.plot.blend_transparency`. With ``alpha=None`` the file has no alpha channel.
    metadata
        Text entries of the file, such as {"Title": "coffee mug"}. Keywords have 1 to 79 printable
        Latin-1 characters. Values of any type are written as text; characters that PNG cannot hold
        (the character 0 and lone surrogates) are escaped. The entry "Software" with fvfast's
        version is added, and for the result of a guided run "fvfast.guide". `read_metadata` reads
        the entries.

    Returns
    -------
    path
        The path of the file.

    Raises
    ------
    ValueError
        `fvfast.plot.blend_transparency` refuses the picture, or PNG does not allow a keyword.
    OSError
        The file cannot be written.
    """
    if guide := guide_of(image):
        metadata = {"fvfast.guide": guide, **(metadata or {})}
    image, alpha = picture_of(image, alpha)
    rgba = blend_transparency(image, alpha, percentile_image, percentile_alpha, style=style)
    values = np.rint((rgba if alpha is not None else rgba[..., :3]) * 255.0).astype(np.uint8)
    return _write(Path(path), Image.fromarray(values), metadata)


def contact_sheet(
    images: Sequence[torch.Tensor | ArrayLike] | torch.Tensor | NDArray[Any],
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    alphas: Sequence[torch.Tensor | ArrayLike] | torch.Tensor | NDArray[Any] | None = None,
    columns: int | None = None,
    style: Style = "xplique",
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write several pictures, each with its name below, on white as one PNG.

    Parameters
    ----------
    images
        N pictures, as `fvfast.plot.blend_transparency` takes them; each is shown with 320 pixels on
        its longer side.
    names
        N labels. A line break starts a new line. Lines that are too long are cut, and lines after
        the tenth are left out.
    path
        Path of the file, used as it is; an existing file is replaced.
    alphas
        N transparencies; None shows all opaque.
    columns
        Pictures per row, at least 1. None: as many columns as rows or one more.
    style
        "xplique" or "horama".
    metadata
        See `save_png`.

    Returns
    -------
    path
        The path of the file.

    Raises
    ------
    ValueError
        No pictures, lengths that differ, fewer than one column, or see `save_png`.
    OSError
        The file cannot be written.
    """
    count = len(images)
    check_lengths(count, names=names, alphas=alphas)
    columns = grid_columns(count, columns)
    font = ImageFont.load_default(_FONT_SIZE)
    lines = [_lines(name) for name in names]
    width = _THUMBNAIL + _MARGIN
    height = _THUMBNAIL + _MARGIN + _LINE * max(map(len, lines))
    sheet = Image.new(
        "RGB",
        (columns * width + _MARGIN, math.ceil(count / columns) * height + _MARGIN),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for index in range(count):
        left = _MARGIN + index % columns * width
        top = _MARGIN + index // columns * height
        rgba = blend_transparency(
            images[index], None if alphas is None else alphas[index], style=style
        )
        picture = Image.fromarray(np.rint(rgba * 255.0).astype(np.uint8))
        scale = _THUMBNAIL / max(picture.size)
        picture = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
            Image.Resampling.LANCZOS,
        )
        corner = (left + (_THUMBNAIL - picture.width) // 2, top)
        sheet.paste(picture, corner, picture)
        for number, line in enumerate(lines[index]):
            draw.text(
                (left + _THUMBNAIL / 2, top + _THUMBNAIL + number * _LINE),
                _fitted(line, font),
                "black",
                font,
                anchor="ma",
            )
    return _write(Path(path), sheet, metadata)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the text entries of a PNG file.

    Parameters
    ----------
    path
        Path of the file.

    Returns
    -------
    metadata
        Keyword and text of each entry.

    Raises
    ------
    OSError
        The file cannot be read, or is not an image (`PIL.UnidentifiedImageError`).
    ValueError
        The file is an image of another format, damaged, or too large to decode.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata other than texts
        try:
            with opened_image(Path(path)) as picture:
                if not isinstance(picture, PngImagePlugin.PngImageFile):
                    raise ValueError(f"this is a {picture.format} file; expected a PNG file")
                decoding_bytes(picture, 0, picture.size, MEMORY)
                # Loading also reads the entries that come after the pixels.
                picture.load()
                return {key: str(text) for key, text in picture.text.items()}
        except OSError:
            raise
        except Exception as error:
            # Pillow may raise any exception for damaged files.
            raise ValueError(f"{path}: {reason(error)}.") from error


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make sure, before any work, that files can be written into a folder.

    The folder need not exist and is not created: the closest existing folder above it is tried
    then. A temporary file without a name is written there, because permission bits say nothing
    about read-only or network file systems.

    Parameters
    ----------
    folder
        Path of the folder.

    Raises
    ------
    NotADirectoryError
        The path, or one above it, is a file.
    PermissionError
        The folder cannot be written.
    OSError
        Anything else that keeps a file from being written, such as a full disk.
    """
    target = Path(folder).absolute()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        target.lstat()  # raises an error that making the folder would, too: a name is too long
    existing = next(path for path in (target, *target.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise NotADirectoryError(
            f"{existing} is not a folder; expected a folder to write the pictures to. Choose "
            "another one."
        )
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
    except OSError as error:
        what = PermissionError if isinstance(error, PermissionError) else OSError
        raise what(
            f"files cannot be written to {existing} ({error.strerror}). Choose another folder, or "
            "change this one's permissions."
        ) from error


def _lines(name: str) -> list[str]:
    """Split a label into lines, with unprintable characters escaped."""
    lines = [printable(line) for line in name.split("\n")]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "..."]


def _fitted(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a line, with an ellipsis at the end, to the width of a thumbnail."""
    # There cannot be more letters than pixels, and measuring a long line takes time.
    shown = line[:_THUMBNAIL]
    if shown == line and font.getlength(line) <= _THUMBNAIL:
        return line

    def width(length: int) -> int:
        return math.ceil(font.getlength(shown[:length] + "..."))

    fitting = bisect.bisect_right(range(1, len(shown) + 1), _THUMBNAIL, key=width)
    return shown[:fitting] + "..."


def _write(path: Path, picture: Image.Image, metadata: Mapping[str, Any] | None) -> Path:
    entries = PngImagePlugin.PngInfo()
    for key, value in {"Software": f"fvfast {VERSION}", **(metadata or {})}.items():
        _check_keyword(key)
        entries.add_text(key, _storable(str(value)))
    with replacing(path) as file:
        picture.save(file, format="PNG", pnginfo=entries)
    return path


def _storable(text: str) -> str:
    """Escape what a PNG text cannot hold: the character 0, which ends it, and lone surrogates."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()


def _check_keyword(key: str) -> None:
    if not isinstance(key, str) or not _KEYWORD.fullmatch(key):
        raise ValueError(
            f"metadata has the keyword {shortened(repr(key), 100)}; a PNG file takes keywords of 1 "
            "to 79 Latin-1 characters, without control characters, and spaces only between words."
        )
