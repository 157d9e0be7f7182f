"""Images in tar files, in the layout of WebDataset, read from front to back."""

import errno
import glob
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec

from fvfast.atlas.examples.folders import check_size, is_url
from fvfast.atlas.examples.samples import Sample, UnreadableError
from fvfast.files.reading import reason
from fvfast.spectrum.photographs import SUFFIXES

_LONGEST_LABEL = 2**12  # bytes of a file with a label
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class ImageArchives:
    """The images of tar files, in their order.

    As in WebDataset, files that follow each other and have the same name up to the first dot belong
    together: an image, and its label in a ``.cls`` or, under "label", a ``.json`` file. Archives
    may be compressed. An archive that ends early or is damaged gives the images before that, and
    counts as one image that cannot be read.

    Parameters
    ----------
    places
        Paths or URLs; ``{000..003}`` and ``*`` stand for several.

    Raises
    ------
    FileNotFoundError
        There is no such archive.
    """

    can_repeat, can_pick = True, False
    total: int | None = None

    def __init__(self, places: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        given = [places] if isinstance(places, (str, os.PathLike)) else list(places)
        self._archives = [one for place in given for one in _expanded(os.fspath(place))]
        first, more = self._archives[0], len(self._archives) - 1
        self.name = first if not more else f"{first} and {more} more"
        digest = hashlib.sha256()
        for place in self._archives:
            digest.update(f"{place}\0{_size(place)}\0".encode("utf-8", "surrogateescape"))
        self.listing = digest.hexdigest()

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Yield the images, in order, from a number on; those before it are passed over."""
        number = 0
        for place in self._archives:
            for sample in self._samples_of(place):
                if number >= start:
                    yield sample
                number += 1

    def _samples_of(self, place: str) -> Iterator[Sample]:
        name = os.path.basename(place)
        group: list[_Member] = []
        try:
            for member in _members(place):
                if group and member.key != group[0].key:
                    yield from _samples(name, group)
                    group = []
                group.append(member)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            # The last group may be complete: what is damaged lies behind it.
            yield from _samples(name, group)
            yield Sample(name, None, _failing(f"the archive cannot be read on: {reason(error)}"))
            return
        yield from _samples(name, group)


class _StrictHeader(tarfile.TarInfo):
    """A header that ends an archive only where it is the mark of its end.

    Python takes a damaged header, or none at all, for the end of an archive, too.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictHeader":
        """Read a header."""
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                raise
            raise tarfile.ReadError(f"it is damaged or ends early ({error})") from error


class _Member(NamedTuple):
    name: str
    key: str
    suffix: str
    content: bytes | str  # or why there is none


def _members(place: str) -> Iterator[_Member]:
    """Read an archive from front to back; members that are neither images nor labels are skipped.

    Raises
    ------
    tarfile.TarError, EOFError, OSError, ValueError
        The archive is damaged or ends early. (Libraries that unpack raise several.)
    """
    with (
        _opened(place) as file,
        tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictHeader) as archive,
    ):
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # or it would keep each of them
            folder, _, base = info.name.rpartition("/")
            stem, dot, suffix = base.partition(".")
            key, suffix = f"{folder}/{stem}", f"{dot}{suffix}".lower()
            is_image, is_label = suffix.endswith(tuple(SUFFIXES)), suffix in (".cls", ".json")
            if not info.isreg() or not (is_image or is_label):
                continue
            if is_label and info.size > _LONGEST_LABEL:
                continue
            try:
                check_size(info.size)
            except UnreadableError as error:
                yield _Member(info.name, key, suffix, str(error))
                continue
            content = archive.extractfile(info)
            assert content is not None  # of a regular file
            data = content.read()
            if len(data) < info.size:
                raise EOFError(f"{info.name} has {len(data)} of {info.size} bytes")
            yield _Member(info.name, key, suffix, data)


def _samples(archive: str, group: list[_Member]) -> Iterator[Sample]:
    label = next(filter(None, map(_label, group)), None)
    for member in group:
        if not member.suffix.endswith(tuple(SUFFIXES)):
            continue
        content = member.content
        load = _failing(content) if isinstance(content, str) else _Constant(content)
        yield Sample(f"{archive}/{member.name}", label, load)


def _label(member: _Member) -> str | None:
    if isinstance(member.content, str):
        return None
    text = member.content.decode("utf-8", "replace").strip()
    if member.suffix == ".cls":
        return text or None
    if member.suffix != ".json":
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None  # a label is not worth an image
    label = record.get("label") if isinstance(record, dict) else None
    return None if label is None else str(label)


class _Constant:
    """A function that returns what it was made with."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __call__(self) -> bytes:
        return self._content


def _failing(text: str) -> Any:
    def fail() -> bytes:
        raise UnreadableError(text)

    return fail


def _opened(place: str) -> IO[bytes]:
    # fsspec takes paths, too, and its local file system changes some of their characters.
    if is_url(place):
        remote: IO[bytes] = fsspec.open(place, "rb").open()
        return remote
    return Path(place).open("rb")


def _expanded(place: str) -> list[str]:
    found = _BRACES.search(place)
    if found:
        first, last = found.groups()
        return [
            one
            for number in range(int(first), int(last) + 1)
            for one in _expanded(
                f"{place[: found.start()]}{number:0{len(first)}d}{place[found.end() :]}"
            )
        ]
    if glob.has_magic(place) and not os.path.exists(place):
        if is_url(place):
            system, path = fsspec.core.url_to_fs(place)
            matches = sorted(map(system.unstrip_protocol, system.glob(path)))
        else:
            matches = sorted(glob.glob(place))
        if matches:
            return matches
    if is_url(place):
        system, path = fsspec.core.url_to_fs(place)
        exists = system.isfile(path)
    else:
        exists = os.path.isfile(place)
    if not exists:
        raise FileNotFoundError(
            errno.ENOENT, "there is no such archive; expected a tar file of images", place
        )
    return [place]


def _size(place: str) -> int:
    if is_url(place):
        system, path = fsspec.core.url_to_fs(place)
        return int(system.size(path) or 0)
    return os.path.getsize(place)
