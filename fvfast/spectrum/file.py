"""The files of spectra: those that `fvfast.spectrum.Spectrum.save` writes, and plain arrays."""

import dataclasses
import struct
import zipfile
import zlib
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fvfast._files import replacing

_KEYS = (
    "fvfast_version",
    "image_count",
    "kind",
    "magnitude",
    "parzen_window",
    "size",
    "skipped_count",
)
# What NumPy and the standard library raise on damaged archives.
_DAMAGE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Kind(Enum):
    """Where magnitudes come from, and so how another size is reached."""

    NATURAL = "closed form"
    MEASURED = "measured"
    BILINEAR = "array, resized bilinearly"


@dataclasses.dataclass(frozen=True)
class SpectrumFile:
    """Content of a file.

    Attributes
    ----------
    kind
        Measured, or a plain array.
    values
        Magnitudes (C, H, W // 2 + 1), float32, without the Parzen window if measured.
    size
        (H, W).
    parzen_window
        Whether the Parzen window is to be applied.
    image_count, skipped_count
        Number of images that were averaged, and of files that could not be read.
    version
        Version of fvfast that measured it; empty for a plain array.
    """

    kind: Kind
    values: NDArray[np.float32]
    size: tuple[int, int]
    parzen_window: bool
    image_count: int
    skipped_count: int
    version: str


def read_spectrum(path: Path) -> SpectrumFile:
    """Read an ``.npz`` of `write_spectrum` or a ``.npy`` array (C, H, W // 2 + 1).

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, is something else, or its values are no magnitudes.
    """
    with path.open("rb") as file:
        try:
            content = np.load(file, allow_pickle=False)
            named = {} if isinstance(content, np.ndarray) else {k: content[k] for k in content}
        except _DAMAGE as error:
            raise ValueError(
                f"Spectrum.from_file: {path} is damaged, or not an array file ({error}); expected "
                ".npz or .npy."
            ) from error
    if isinstance(content, np.ndarray):
        values = _checked(content, path)
        if values.shape[2] <= 4 < values.shape[0]:
            raise _refused(content, path, "np.moveaxis(array, -1, 0) brings the channels to front.")
        return SpectrumFile(
            kind=Kind.BILINEAR,
            values=values,
            size=(values.shape[1], 2 * (values.shape[2] - 1)),
            parzen_window=True,
            image_count=0,
            skipped_count=0,
            version="",
        )
    for key in _KEYS:
        if key not in named:
            raise ValueError(
                f"Spectrum.from_file: {path} has no array {key!r}; expected a file that "
                "Spectrum.save wrote."
            )
    values = _checked(named["magnitude"], path)
    try:
        height, width = map(int, named["size"])
        made = SpectrumFile(
            kind=Kind(str(named["kind"])),
            values=values,
            size=(height, width),
            parzen_window=bool(named["parzen_window"]),
            image_count=int(named["image_count"]),
            skipped_count=int(named["skipped_count"]),
            version=str(named["fvfast_version"]),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Spectrum.from_file: {path} holds something else than a spectrum ({error}); expected "
            "a file that Spectrum.save wrote."
        ) from error
    if made.kind is Kind.NATURAL or values.shape[1:] != (height, width // 2 + 1):
        raise _refused(values, path, f"It is said to be of {height} x {width} pixels.")
    return made


def write_spectrum(path: Path, content: SpectrumFile) -> None:
    """Write a compressed ``.npz``; it appears under its name only when it is complete."""
    with replacing(path) as file:
        np.savez_compressed(
            file,
            magnitude=content.values,
            kind=np.array(content.kind.value),
            size=np.array(content.size),
            parzen_window=np.array(content.parzen_window),
            image_count=np.array(content.image_count),
            skipped_count=np.array(content.skipped_count),
            fvfast_version=np.array(content.version),
        )


def _checked(values: NDArray[np.generic], path: Path) -> NDArray[np.float32]:
    real = np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
    # The smallest image is 2 x 2 pixels, with 2 rows and 2 columns of frequencies.
    if not real or values.ndim != 3 or values.shape[0] < 1 or min(values.shape[1:]) < 2:
        hint = "np.abs takes the magnitudes." if np.iscomplexobj(values) else ""
        raise _refused(values, path, hint)
    with np.errstate(over="ignore"):
        checked = values.astype(np.float32)
    if not np.isfinite(checked).all() or (checked < 0).any():
        raise _refused(values, path, "Some of them are.")
    return checked


def _refused(values: NDArray[np.generic], path: Path, hint: str) -> ValueError:
    message = (
        f"Spectrum.from_file: {path} has an array of {values.dtype} of shape {values.shape}; "
        "expected real magnitudes (C, H, W // 2 + 1) of at least 1 channel and 2 x 2 pixels, none "
        "of them negative, infinite or NaN."
    )
    return ValueError(f"{message} {hint}".rstrip())
