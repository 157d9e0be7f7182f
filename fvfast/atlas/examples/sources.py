"""What a user gives as images becomes a source of them."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fvfast.atlas.examples.archives import ImageArchives
from fvfast.atlas.examples.folders import ImageFolder
from fvfast.atlas.examples.iterables import ImageIterable
from fvfast.atlas.examples.samples import ImageSource

_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

Images = str | os.PathLike[str] | Iterable[Any]


def image_source(images: Images) -> ImageSource:
    """Return a source of images.

    Parameters
    ----------
    images
        A folder, or tar files in the layout of WebDataset: a path or URL, with ``{000..003}`` or
        ``*`` for several, or a list of them. Or any iterable of (image, label, source), (image,
        label) or images: PIL images, arrays (H, W, C) or tensors (C, H, W), of uint8 or of numbers
        from 0 to 1.

    Raises
    ------
    TypeError
        It is none of these.
    OSError, ValueError
        There is no such folder or archive, or it has no images.
    """
    if isinstance(images, (str, os.PathLike)):
        return ImageArchives(images) if _is_archive(os.fspath(images)) else ImageFolder(images)
    if isinstance(images, Sequence) and images and all(map(_is_place, images)):
        wrong = [os.fspath(one) for one in images if not _is_archive(os.fspath(one))]
        if wrong:
            raise ValueError(
                f"a list of places may name tar files only; got {wrong[0]!r}. Give one folder, "
                f"or archives that end in {', '.join(_ARCHIVE_SUFFIXES)}."
            )
        return ImageArchives(list(images))
    if not any(hasattr(images, name) for name in ("__iter__", "__getitem__")):
        raise TypeError(
            "images must be a folder, tar files, or an iterable of (image, label, source); got "
            f"{type(images).__name__}."
        )
    return ImageIterable(images)


def _is_place(value: object) -> bool:
    return isinstance(value, (str, Path))


def _is_archive(place: str) -> bool:
    return place.lower().endswith(_ARCHIVE_SUFFIXES)
