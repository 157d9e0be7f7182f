"""Reads arrays from ``.npz`` and ``.npy`` files, whose sizes are checked before unpacking."""

import contextlib
import io
import math
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fvfast.files.reading import open_regular, reason

LARGEST = 400 * 2**20
"""Most bytes that the arrays of one file may take together, with at least 4 for each value.

Spectra of 3 channels of 8192 x 8192 pixels take 384 MiB, and twice that while their byte order is
converted.
"""
_KINDS = "biufcU"  # numbers and texts, but no objects, dates or records
_LONGEST_HEADER = 2**10  # an array of numbers has a header of 128 bytes
_LONGEST_READ = 2**20  # NumPy reads less at a time, and writes no list of members as long as this
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    length: int


def read_arrays(
    path: Path, names: Iterable[str], largest: int = LARGEST
) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Read the array of a ``.npy`` file, or the arrays of an ``.npz`` file with given names.

    Parameters
    ----------
    path
        Path of the file; the content decides which of the two formats it is.
    names
        Names of the arrays to read. Names that are not in the file are skipped.
    largest
        Largest number of bytes that the arrays may take together.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is not a regular file, is damaged, holds an array of anything but numbers or texts, or
        its arrays would take more than ``largest`` bytes.
    """
    with _ShortReads(open_regular(path)) as file:
        if not file.peek().startswith(b"PK"):
            size = os.fstat(file.fileno()).st_size
            array, _ = _read_array(file, size, path, largest)
            return array
        with _telling_damage(path):
            archive = zipfile.ZipFile(file)
        with archive:
            return _read_members(archive, names, path, largest)


def _read_members(
    archive: zipfile.ZipFile, names: Iterable[str], path: Path, largest: int
) -> dict[str, NDArray[Any]]:
    listed = archive.namelist()
    found = [name for name in names if f"{name}.npy" in listed]
    arrays, taken = {}, 0
    for name in found:
        what = f"{path}, array {name!r},"
        if listed.count(f"{name}.npy") > 1:
            raise ValueError(f"{what} is there more than once; expected one.")
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type not in _METHODS:
            # With others, such as LZMA, the size of what a few bytes unpack to cannot be limited.
            raise ValueError(
                f"{what} is compressed by method {info.compress_type}; expected none or deflate, "
                "as numpy.savez and numpy.savez_compressed write."
            )
        with _telling_damage(path):
            member = archive.open(info)
        with member:
            arrays[name], taken = _read_array(member, info.file_size, what, largest, taken)
    return arrays


def _read_array(
    file: IO[bytes], size: int, what: Path | str, largest: int, before: int = 0
) -> tuple[NDArray[Any], int]:
    """Read an array; return it, and the bytes that it takes with those before it."""
    with _telling_damage(what):
        header = _read_header(file)
    if header.dtype.kind not in _KINDS or header.dtype.hasobject:
        raise ValueError(f"{what} holds {header.dtype}; expected numbers.")
    count = math.prod(header.shape)
    # Magnitudes of any type become float32.
    taken = count * max(header.dtype.itemsize, 4)
    if before + taken > largest:
        raise ValueError(
            f"{what} takes {taken / 2**30:.1f} GiB; expected at most {largest / 2**30:.1f} GiB."
        )
    values = size - header.length
    if min(header.shape, default=0) < 0 or count * header.dtype.itemsize != values:
        raise ValueError(
            f"{what} is damaged: its header says shape {header.shape} and {header.dtype}, but "
            f"{values} bytes of values follow."
        )
    with _telling_damage(what), _no_warnings():
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False), before + taken


def _read_header(file: IO[bytes]) -> _Header:
    # From a copy, because NumPy reads a header of any length before it judges the length.
    start = io.BytesIO(file.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    elif version in ((2, 0), (3, 0)):
        # Version 3.0 differs only in the encoding of field names, which arrays of numbers lack.
        read = np.lib.format.read_array_header_2_0
    else:
        raise ValueError(f"version {version} of the header is unknown")
    with _no_warnings():
        shape, _, dtype = read(start)
    return _Header(shape, dtype, start.tell())


class _ShortReads(io.BufferedReader):
    """Refuses to read much at once: a damaged archive may ask for any number of bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and 0 <= size <= _LONGEST_READ:
            return super().read(size)
        data = super().read(_LONGEST_READ + 1)
        if len(data) > _LONGEST_READ:
            raise ValueError(f"its list of members takes more than {_LONGEST_READ} bytes")
        return data


@contextlib.contextmanager
def _telling_damage(what: Path | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Neither NumPy nor the standard library documents what they raise for damaged files.
        raise ValueError(
            f"{what} is damaged, or not an array file ({reason(error)}); expected .npz or .npy."
        ) from error


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress the warnings of NumPy and Python about headers, such as those Python 2 wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
