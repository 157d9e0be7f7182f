"""Folders on a disk or on object storage, by fsspec: what a gallery reads from and writes to."""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from fvfast._shared.messages import printable

_UNFINISHED = ".unfinished"


class Folder:
    """A folder by its path or URL. Names of files in it are relative, with slashes.

    Parameters
    ----------
    location
        A path, or a URL of any file system that fsspec knows.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        # Listings are read anew: an atlas may be drawn on while its pages are made.
        options: dict[str, Any] = {"use_listings_cache": False}
        self._files, root = url_to_fs(self.location, **options)
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises
        ------
        OSError
            It cannot be read.
        """
        return bytes(self._files.cat_file(self._path(name)))

    def read_each(self, names: Iterable[str]) -> Iterator[bytes | OSError]:
        """Yield the content of each file, or why it cannot be read.

        Object storage is asked for all of them at the same time.
        """
        paths = [self._path(name) for name in names]
        found = self._files.cat(paths, on_error="return") if paths else {}
        for path in paths:
            content = found[path]
            if isinstance(content, OSError):
                yield content
            elif isinstance(content, BaseException):
                raise content
            else:
                yield bytes(content)

    def names_in(self, folder: str) -> set[str]:
        """Return the names of the files in a folder, without it; none if there is no such folder.

        Files that are not finished are left out.
        """
        try:
            entries = self._files.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return set()
        names = {
            str(entry["name"]).rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file"
        }
        return {name for name in names if not name.endswith(_UNFINISHED)}

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which is complete or not there.

        Raises
        ------
        OSError
            It cannot be written.
        """
        path = self._path(name)
        if not isinstance(self._files, LocalFileSystem):
            self._files.pipe_file(path, data)  # one request: object storage has all of it or none
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def __str__(self) -> str:
        return printable(self.location)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
