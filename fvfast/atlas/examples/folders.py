"""The image files of a folder, on this machine or anywhere that fsspec reaches."""

import errno
import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec

from fvfast._shared.messages import warn_user
from fvfast.atlas.examples.samples import Sample, UnreadableError
from fvfast.files.reading import files_below, reason
from fvfast.spectrum.photographs import SUFFIXES

LARGEST_FILE = 2**26
"""Bytes of a file that is read into memory before it is decoded: a batch of them is, at once."""


class ImageFolder:
    """The image files in a folder and its subfolders, in the order of their names.

    Files whose names do not end as images' do are left alone. The label of an image is the folder
    that it lies in, as in ImageNet; an image directly in the folder has none.

    Parameters
    ----------
    place
        A path, or a URL that fsspec knows.

    Raises
    ------
    NotADirectoryError
        There is no such folder.
    ValueError
        It has no image files.

    Warns
    -----
    UserWarning
        Subfolders cannot be listed.
    """

    can_repeat = can_pick = True

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.name = os.fspath(place)
        self._unlisted: list[str] = []
        if is_url(self.name):
            self._load, found = self._list_remote()
        else:
            self._load, found = self._list_local()
        named = sorted(
            (name, size) for name, size in found if name.lower().endswith(tuple(SUFFIXES))
        )
        self._names = [name for name, _ in named]
        self.total: int | None = len(named)
        digest = hashlib.sha256()
        for name, size in named:
            digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        self.listing = digest.hexdigest()
        unlisted = "".join(f"\n  {text}" for text in self._unlisted)
        if not named:
            raise ValueError(
                f"{self.name} has no image files; expected files that end in "
                f"{', '.join(SUFFIXES)}.{unlisted}"
            )
        if unlisted:
            warn_user(
                f"folders of {self.name} could not be listed, and are left out:{unlisted}",
                UserWarning,
            )

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Yield the images, in order, from a number on."""
        for number in range(start, len(self._names)):
            name = self._names[number]
            label = posixpath.basename(posixpath.dirname(name)) or None
            yield Sample(name, label, partial(self._load, name))

    def _list_local(self) -> tuple[Callable[[str], Any], Iterable[tuple[str, int]]]:
        folder = Path(self.name)
        if not folder.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR, "there is no such folder; expected a folder of images", self.name
            )
        found = []
        for path in files_below(folder, self._add_unlisted):
            found.append((path.relative_to(folder).as_posix(), _size(path)))
        return folder.joinpath, found

    def _list_remote(self) -> tuple[Callable[[str], Any], Iterable[tuple[str, int]]]:
        system, root = fsspec.core.url_to_fs(self.name)
        if not system.isdir(root):
            raise NotADirectoryError(
                errno.ENOTDIR, "there is no such folder; expected a folder of images", self.name
            )
        found = [
            (posixpath.relpath(path, root), int(details.get("size") or 0))
            for path, details in system.find(root, detail=True).items()
        ]
        sizes = dict(found)

        def load(name: str) -> bytes:
            check_size(sizes[name])
            try:
                content: bytes = system.cat_file(posixpath.join(root, name))
            except OSError as error:
                raise UnreadableError(reason(error)) from error
            return content

        return load, found

    def _add_unlisted(self, error: OSError) -> None:
        self._unlisted.append(f"{error.filename}: {error.strerror}")


def is_url(place: str) -> bool:
    """Whether a place is one for fsspec, not a path of this machine."""
    return "://" in place or "::" in place


def check_size(size: int) -> None:
    """Raise `UnreadableError` if the content of a file is too large to be read into memory."""
    if size > LARGEST_FILE:
        raise UnreadableError(
            f"{size / 2**20:.0f} MiB; expected files of at most {LARGEST_FILE // 2**20} MiB"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will say why
