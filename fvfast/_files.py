"""Writes files that are either complete or not there."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends without an error.

    Until then ``path`` is as it was. Several may write the same path at the same time: the last one
    stays. Missing folders are created.

    Parameters
    ----------
    path
        Path of the file.

    Yields
    ------
    file
        To be written.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the file, because a rename is atomic only within one file system; without the file's
    # name, which may be as long as the file system allows.
    unfinished = path.with_name(f".fvfast-{uuid.uuid4().hex}.unfinished")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
