"""Reads directions of a layer from a file, with a checksum for the record of a picture."""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fvfast.files.dictionaries import read_dictionary


def read_directions(path: Path) -> tuple[NDArray[np.float32], str]:
    """Read directions.

    Parameters
    ----------
    path
        Whatever `read_dictionary` reads.

    Returns
    -------
    vectors
        (N, C).
    digest
        A checksum of the values.

    Raises
    ------
    OSError, ValueError, ImportError
        See `read_dictionary`.
    """
    vectors: NDArray[np.float32] = read_dictionary(path).directions.numpy()
    return vectors, f"{zlib.crc32(vectors.tobytes()):08x}"
