"""Reads directions of a layer from a file."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvfast.files.arrays import read_arrays

NAMES = ("directions", "vectors", "coef", "arr_0")
"""Names of the array in an ``.npz`` file, of which one must be there."""


def read_directions(path: Path) -> tuple[NDArray[np.float32], str]:
    """Read directions.

    Parameters
    ----------
    path
        A ``.npy`` file, or an ``.npz`` file with an array of one of the names `NAMES`.

    Returns
    -------
    vectors
        (N, C).
    digest
        A checksum of the values.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is damaged, has no such array, or the array has another shape or no real numbers.
    """
    found: Any = read_arrays(path, NAMES)
    if isinstance(found, dict):
        if len(found) != 1:
            raise ValueError(
                f"{path} has {len(found)} arrays of directions; expected one, named "
                f"{', '.join(NAMES[:-1])} or {NAMES[-1]}."
            )
        (found,) = found.values()
    vectors = found[None] if found.ndim == 1 else found
    if vectors.ndim != 2 or 0 in vectors.shape or vectors.dtype.kind not in "iuf":
        raise ValueError(
            f"{path} has an array of shape {found.shape} and {found.dtype}; expected real numbers "
            "of shape (C,) for one direction, or (N, C) for several."
        )
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return vectors, f"{zlib.crc32(vectors.tobytes()):08x}"
