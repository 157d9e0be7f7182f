"""What a file holds: recognized by its first bytes, whatever it is called."""

import dataclasses
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from fvfast.files.arrays import read_arrays
from fvfast.files.dictionaries.configs import Described, describe, parse_config
from fvfast.files.dictionaries.safetensors_files import SafetensorsFile
from fvfast.files.dictionaries.torch_files import load_tensors, pickled
from fvfast.files.dictionaries.values import LARGEST
from fvfast.files.reading import open_regular

ARRAYS = ("directions", "vectors", "coef", "arr_0")
"""Names of the array in an ``.npz`` file, of which one must be there."""

NAMES = "names"
"""Name of an array of texts beside it: the names of the directions."""

_LONGEST_LINE = 2**20  # bytes of the settings that saev puts before the tensors
_PICKLES = (b"\x80", b"(", b"c", b"\x1f\x8b")  # pickles of Python 3 and 2, compressed ones


class Contents(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    tensors
        Tensors or arrays by name.
    described
        What the file itself says of the dictionary.
    names
        Names of the directions; None if the file has none.
    """

    tensors: Mapping[str, Any]
    described: Described = Described()
    names: tuple[str, ...] | None = None


def read_contents(path: Path, name: str | None) -> Contents:
    """Read a file.

    Parameters
    ----------
    path
        Path of the file.
    name
        Which array of an ``.npz`` file is asked for; None for one of `ARRAYS`.

    Raises
    ------
    OSError, ValueError, ImportError
        See `fvfast.files.dictionaries.read_dictionary`.
    """
    with io.BufferedReader(open_regular(path)) as file:
        start = file.peek(16)[:16]
        if start.startswith(b"\x93NUMPY"):
            return Contents({"array": read_arrays(path, (), LARGEST)})
        if start.startswith(b"PK"):
            if _is_of_torch(file):
                file.seek(0)
                return Contents(load_tensors(file, path))
            return _of_arrays(path, name)
        if _is_safetensors(start, os.fstat(file.fileno()).st_size):
            return Contents(SafetensorsFile(path))
        if start.startswith(b"{"):
            return _of_saev(file, path)
    if start.startswith(_PICKLES):
        raise ValueError(pickled(str(path)))
    raise ValueError(
        f"{path} is damaged, or no file of directions; expected .npy, .npz, .safetensors, or a "
        "file of torch.save."
    )


def _is_of_torch(file: IO[bytes]) -> bool:
    """Whether a zip archive is one of torch.save, which has a pickle in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(one.rpartition("/")[2] == "data.pkl" for one in archive.namelist())
    except Exception:  # noqa: BLE001 (undocumented; a damaged archive is refused by its reader)
        return False


def _is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON object that it has room for."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length <= size - 8


def _of_saev(file: IO[bytes], path: Path) -> Contents:
    """Read one line of settings, and the archive that follows it."""
    line = file.readline(_LONGEST_LINE)
    described = describe(parse_config(line, f"{path}, its first line,"))
    if os.fstat(file.fileno()).st_size > 3 * LARGEST:
        raise ValueError(f"{path} is too large; expected at most {3 * LARGEST / 2**30:.0f} GiB.")
    tensors = load_tensors(io.BytesIO(file.read()), path, ", after its first line,")
    return Contents(tensors, dataclasses.replace(described, format="saev"))


def _of_arrays(path: Path, name: str | None) -> Contents:
    wanted = ARRAYS if name is None else (name,)
    found = read_arrays(path, (*wanted, NAMES), LARGEST)
    assert isinstance(found, dict)
    names = found.pop(NAMES, None) if name != NAMES else None
    if len(found) != 1:
        expected = f"{', '.join(wanted[:-1])} or {wanted[-1]}" if name is None else name
        raise ValueError(
            f"{path} has {len(found)} arrays of directions; expected one, named {expected}."
        )
    return Contents(found, names=None if names is None else tuple(map(str, np.ravel(names))))
