"""The directions of a layer whose units are directions: where they are read, and their hash.

One function reads all of them, `read_directions`: readers of other formats belong there.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fvfast.atlas.planned_layers import DirectionsFile
from fvfast.files import directions as files


def read_directions(file: str) -> NDArray[np.float32]:
    """Read directions (N, C) from a file.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or holds no directions.
    """
    vectors, _ = files.read_directions(Path(file))
    return vectors


def describe(file: str, vectors: NDArray[np.float32]) -> DirectionsFile:
    """Say where directions are, with the hash that every worker checks."""
    return DirectionsFile(str(Path(file).resolve()), _sha256(vectors))


def read_planned(planned: DirectionsFile) -> NDArray[np.float32]:
    """Read the directions of a plan.

    Raises
    ------
    ValueError
        They are not those that the plan was made with.
    """
    vectors = read_directions(planned.file)
    if _sha256(vectors) != planned.sha256:
        raise ValueError(
            f"{planned.file} holds other directions than those that the plan was made with."
        )
    return vectors


def _sha256(vectors: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(repr(vectors.shape).encode())
    digest.update(np.ascontiguousarray(vectors, dtype="<f4").data)
    return digest.hexdigest()
