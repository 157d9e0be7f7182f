"""Folders on a disk or on object storage, by fsspec: what a gallery reads from and writes to."""

import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from fvfast._shared.messages import printable

_UNFINISHED = ".unfinished"
_READ_TOGETHER = 16  # files: a store answers each of them after a while
_KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "webp": "image/webp",
}
# The argument that s3fs, and gcsfs, pass on to the store.
_WORDS = {"ContentType": {"s3", "s3a"}, "content_type": {"gs", "gcs"}}


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
        """Yield the content of each file, or why it cannot be read; several are read together."""
        with ThreadPoolExecutor(_READ_TOGETHER) as threads:
            yield from threads.map(self._content_or_error, names)

    def _content_or_error(self, name: str) -> bytes | OSError:
        try:
            return self.read(name)
        except OSError as error:
            return error

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
            # One request: object storage has all of it or none.
            self._files.pipe_file(path, data, **self._kind_of_content(name))
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def _kind_of_content(self, name: str) -> dict[str, str]:
        """Return what tells object storage how a browser is to take a file, in its own word.

        Without it, a browser would save the pages instead of showing them.
        """
        protocol = self._files.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        kind = _KINDS[name.rpartition(".")[2]]
        return {word: kind for word, known in _WORDS.items() if protocols & known}

    def __str__(self) -> str:
        return printable(self.location)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
