"""Writes the examples of each unit: crops as WebP files, and a record in JSON that commits them."""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import fsspec
from tqdm.auto import tqdm

from fvfast.atlas.examples.crops import crop_file
from fvfast.atlas.examples.folders import is_url
from fvfast.atlas.examples.pixels import Pixels
from fvfast.atlas.examples.records import Example, UnitExamples, unit_key, unit_record
from fvfast.files.images import pillow_for_many
from fvfast.files.writing import replacing

_THREADS = 8
_AHEAD = 4  # images in work, for each thread

Write = Callable[[str, bytes], object]


class Place(Protocol):
    """Where files go, by names with slashes."""

    def put(self, name: str, data: bytes, /) -> object:
        """Write a file so that it is either complete or not there."""
        ...


class Examples(Protocol):
    """What is written: see `fvfast.atlas.examples.example_set.ExampleSet`."""

    images: int
    unreadable: int
    input_shape: tuple[int, int, int]

    def __len__(self) -> int: ...
    def __getitem__(self, key: int, /) -> UnitExamples: ...

    def best_images(self) -> list[list[int]]:
        """Return the numbers of the best images of each unit."""
        ...

    def loaders(self, numbers: Iterable[int]) -> Iterator[tuple[int, Callable[[], Pixels]]]:
        """Yield functions that load images, with the images' numbers."""
        ...


def write_set(
    examples: Examples,
    place: Place | Write | str | os.PathLike[str],
    *,
    threads: int | None,
    progress: bool,
) -> None:
    """Write the examples of all units; see `ExampleSet.write`."""
    count = _THREADS if threads is None else threads
    with (
        pillow_for_many(),
        tqdm(total=len(examples), desc="examples", disable=not progress) as bar,
        ThreadPoolExecutor(count, thread_name_prefix="fvfast-examples") as pool,
    ):
        job = _Job(examples, file_writer(place), bar)
        pending: deque[Future[None]] = deque()
        try:
            for number, load in examples.loaders(job.users):
                pending.append(pool.submit(job.write_image, number, load))
                if len(pending) >= _AHEAD * count:
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Job:
    """Units whose pictures are not all written yet.

    Attributes
    ----------
    users
        By the number of an image: the units that it is an example of, and its rank there.
    """

    def __init__(self, examples: Examples, write: Write, bar: "tqdm[Any]") -> None:
        self._examples = examples
        self._write = write
        self._bar = bar
        self._lock = threading.Lock()
        self._missing: dict[int, int] = {}
        self._files: dict[int, dict[int, dict[str, str]]] = {}
        self.users: dict[int, list[tuple[int, int]]] = {}
        for row, images in enumerate(examples.best_images()):
            self._missing[row], self._files[row] = len(images), {}
            for rank, image in enumerate(images):
                self.users.setdefault(image, []).append((row, rank))
            if not images:
                self._write_record(row, examples[row])

    def write_image(self, number: int, load: Callable[[], Pixels]) -> None:
        """Write all crops of an image, and the records of the units that these complete."""
        pixels = load()
        for row, rank in self.users[number]:
            unit = self._examples[row]
            file = self._write_crop(unit, unit.top[rank], pixels)
            with self._lock:
                self._files[row][rank] = file
                self._missing[row] -= 1
                is_complete = not self._missing[row]
            if is_complete:
                self._write_record(row, unit)

    def _write_crop(self, unit: UnitExamples, example: Example, pixels: Pixels) -> dict[str, str]:
        content = crop_file(pixels, example.box)
        name = f"examples/{unit_key(unit.layer, unit.index)}.{example.rank}.webp"
        self._write(name, content)
        return {"file": name, "sha256": hashlib.sha256(content).hexdigest()}

    def _write_record(self, row: int, unit: UnitExamples) -> None:
        record = unit_record(
            unit,
            self._files.pop(row),
            images=self._examples.images,
            unreadable=self._examples.unreadable,
            size=self._examples.input_shape[1:],
        )
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
        self._write(f"examples/{unit_key(unit.layer, unit.index)}.json", f"{text}\n".encode())
        with self._lock:
            self._bar.update()


def file_writer(place: Place | Write | str | os.PathLike[str]) -> Write:
    """Return a function that writes files to a place.

    Raises
    ------
    TypeError
        It is no place.
    """
    if isinstance(place, (str, os.PathLike)):
        name = os.fspath(place)
        return _remote_writer(name) if is_url(name) else _local_writer(Path(name))
    write = getattr(place, "put", place)
    if not callable(write):
        raise TypeError(
            "place must be a folder, a URL, or a function of a name and bytes; got "
            f"{type(place).__name__}."
        )
    return write


def _local_writer(folder: Path) -> Write:
    seen: set[Path] = set()

    def write(name: str, content: bytes) -> None:
        path = folder / name
        # Looking for unfinished files takes the longer, the more files there are.
        is_new = path.parent not in seen
        seen.add(path.parent)
        with replacing(path, tidy=is_new) as file:
            file.write(content)

    return write


def _remote_writer(url: str) -> Write:
    system, root = fsspec.core.url_to_fs(url)

    def write(name: str, content: bytes) -> None:
        # An object of a store is complete or not there.
        system.pipe_file(f"{root.rstrip('/')}/{name}", content)

    return write
