"""The files of spectra: those that `fvfast.spectrum.Spectrum.save` writes, and plain arrays."""

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvfast.files.arrays import LARGEST, read_arrays
from fvfast.files.writing import replacing

_KEYS = (
    "fvfast_version",
    "image_count",
    "kind",
    "magnitude",
    "parzen_window",
    "size",
    "skipped_count",
)
_BESIDE = 2**12  # bytes, more than everything but the magnitudes takes


class Kind(Enum):
    """Where magnitudes come from, and so how another size is reached."""

    NATURAL = "closed form"
    MEASURED = "measured"
    BILINEAR = "array, resized bilinearly"


@dataclasses.dataclass(frozen=True)
class SpectrumFile:
    """The content of a file.

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


def read_spectrum(path: Path, largest: int = LARGEST) -> SpectrumFile:
    """Read an ``.npz`` of `write_spectrum` or a ``.npy`` array (C, H, W // 2 + 1).

    Parameters
    ----------
    path
        Path of the file.
    largest
        Bytes that its arrays may take.

    Raises
    ------
    OSError
        There is no such file, or it cannot be opened.
    ValueError
        The file is damaged, too large, something else, or its values are not magnitudes.
    """
    try:
        content = read_arrays(path, _KEYS, largest)
    except ValueError as error:
        raise ValueError(f"Spectrum.from_file: {error}") from error
    if isinstance(content, np.ndarray):
        return _plain(content, path)
    for key in _KEYS:
        if key not in content:
            raise ValueError(
                f"Spectrum.from_file: {path} has no array {key!r}; expected a file that "
                "Spectrum.save wrote."
            )
    return _measured(content, path)


def _plain(array: NDArray[Any], path: Path) -> SpectrumFile:
    values = _checked(array, path)
    if values.shape[2] <= 4 < values.shape[0]:
        raise _refused(array, path, "np.moveaxis(array, -1, 0) brings the channels to the front.")
    return SpectrumFile(
        kind=Kind.BILINEAR,
        values=values,
        size=(values.shape[1], 2 * (values.shape[2] - 1)),
        parzen_window=True,
        image_count=0,
        skipped_count=0,
        version="",
    )


def _measured(arrays: Mapping[str, NDArray[Any]], path: Path) -> SpectrumFile:
    values = _checked(arrays["magnitude"], path)
    try:
        height, width = _entry(arrays, "size", "iu", (2,))
        made = SpectrumFile(
            kind=Kind(_entry(arrays, "kind", "U")),
            values=values,
            size=(height, width),
            parzen_window=_entry(arrays, "parzen_window", "b"),
            image_count=_entry(arrays, "image_count", "iu"),
            skipped_count=_entry(arrays, "skipped_count", "iu"),
            version=_entry(arrays, "fvfast_version", "U"),
        )
        if min(made.image_count, made.skipped_count) < 0:
            raise ValueError(
                f"of {made.image_count} images and {made.skipped_count} that were skipped"
            )
    except (ValueError, SystemError) as error:  # the latter for text that is not Unicode
        raise ValueError(
            f"Spectrum.from_file: {path} holds something other than a spectrum ({error}); expected "
            "a file that Spectrum.save wrote."
        ) from error
    if made.kind is Kind.NATURAL or values.shape[1:] != (height, width // 2 + 1):
        raise _refused(values, path, f"Its entry 'size' says {height} x {width} pixels.")
    return made


def _entry(
    arrays: Mapping[str, NDArray[Any]], key: str, dtype_kinds: str, shape: tuple[int, ...] = ()
) -> Any:
    array = arrays[key]
    if array.dtype.kind not in dtype_kinds or array.shape != shape:
        raise ValueError(f"{key!r} is of {array.dtype} and of shape {array.shape}")
    return array.tolist()


def write_spectrum(path: Path, content: SpectrumFile, largest: int = LARGEST) -> None:
    """Write a compressed ``.npz``; it appears under its name only when it is complete.

    Parameters
    ----------
    path
        Path of the file.
    content
        What is written.
    largest
        Bytes that `read_spectrum` will let its arrays take.

    Raises
    ------
    ValueError
        The spectrum is so large that `read_spectrum` would refuse the file.
    """
    taken = content.values.nbytes + _BESIDE
    if taken > largest:
        raise ValueError(
            f"Spectrum.save: the spectrum has shape {content.values.shape} and would take "
            f"{taken / 2**30:.2f} GiB; expected at most {largest / 2**30:.2f} GiB. Measure it at a "
            "smaller size."
        )
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
    with np.errstate(over="ignore", invalid="ignore"):
        # Native and contiguous, as torch wants it.
        checked = np.ascontiguousarray(values, np.float32)
    low, high = checked.min(), checked.max()
    if not 0 <= low <= high < math.inf:
        raise _refused(values, path, "Some of them are.")
    return checked


def _refused(values: NDArray[np.generic], path: Path, hint: str) -> ValueError:
    message = (
        f"Spectrum.from_file: {path} has an array of {values.dtype} of shape {values.shape}; "
        "expected real magnitudes (C, H, W // 2 + 1) of at least 1 channel and 2 x 2 pixels, none "
        "of them negative, infinite or NaN."
    )
    return ValueError(f"{message} {hint}".rstrip())
