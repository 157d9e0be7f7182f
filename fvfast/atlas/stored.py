"""Files that a record names, with their hashes: a record leads nowhere else than to its own."""

import dataclasses
import hashlib
import re
from typing import Any

from fvfast.atlas.fields import Fields, WrongFileError

_LARGEST_SIDE = 2**14
_STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file of an atlas.

    Attributes
    ----------
    file
        Path in the place.
    sha256
        Of the file.
    """

    file: str
    sha256: str

    def check(self, data: bytes) -> bytes:
        """Return the content of the file, which must be the one that was described.

        Raises
        ------
        WrongFileError
            It is another one.
        """
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise WrongFileError(
                f"{self.file} is damaged: its SHA-256 is {found[:12]}, its record says "
                f"{self.sha256[:12]}."
            )
        return data


@dataclasses.dataclass(frozen=True)
class StoredImage(StoredFile):
    """A picture of an atlas.

    Attributes
    ----------
    file, sha256
        See `StoredFile`.
    size
        Of the file, in bytes.
    width, height
        Of the image.
    """

    size: int
    width: int
    height: int

    @classmethod
    def of(cls, file: str, data: bytes, width: int, height: int) -> "StoredImage":
        """Describe a file that is about to be written."""
        return cls(file, hashlib.sha256(data).hexdigest(), len(data), width, height)

    @classmethod
    def read(cls, fields: Fields, folder: str) -> "StoredImage":
        """Read the part of a record, whose pictures are in a folder."""
        width, height = fields.count("width"), fields.count("height")
        if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
            raise fields.error(
                f"has {width} x {height} pixels; expected sides of 1 to {_LARGEST_SIDE}."
            )
        return cls(
            read_file_in(fields, folder, ".png"),
            fields.sha256("sha256"),
            fields.count("bytes"),
            width,
            height,
        )

    def described(self) -> dict[str, Any]:
        """Return the part of a record."""
        values = dataclasses.asdict(self)
        return values | {"bytes": values.pop("size")}


def read_file_in(fields: Fields, folder: str, suffix: str) -> str:
    """Return the path of a file, which must be in a folder and end as its kind does."""
    file = fields.text("file")
    name = file.removeprefix(f"{folder}/")
    if name == file or not name.endswith(suffix) or not _STEM.fullmatch(name.removesuffix(suffix)):
        raise fields.error(f"names the file {file!r}; expected one in the folder {folder}.")
    return file
