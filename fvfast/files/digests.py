"""Checksums of files, for the records of pictures."""

import zlib
from pathlib import Path

from fvfast.files.reading import open_regular

_BLOCK = 2**20


def file_digest(path: Path) -> str:
    """Return a checksum of a file's bytes.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not a regular file.
    """
    digest = 0
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest = zlib.crc32(block, digest)
    return f"{digest:08x}"
