"""Writes the examples of each unit: crops as WebP files, and a record in JSON that commits them."""

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from tqdm.auto import tqdm

from fvfast.atlas.examples.crops import crop_file
from fvfast.atlas.examples.pixels import Pixels
from fvfast.atlas.examples.records import encode_examples
from fvfast.atlas.examples.unit_examples import Example, UnitExamples
from fvfast.atlas.keys import EXAMPLES, quoted
from fvfast.atlas.places import Place
from fvfast.atlas.stored import StoredFile
from fvfast.files.images import pillow_for_many

_THREADS = 8
_AHEAD = 4  # images in work, for each thread

Write = Callable[[str, bytes], object]


class Examples(Protocol):
    """What is written: see `fvfast.atlas.examples.example_set.ExampleSet`."""

    images: int
    unreadable: int
    input_shape: tuple[int, int, int]
    layers: list[str]

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
        job = _Job(examples, file_writer(place, examples.layers), bar)
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
        self._files: dict[int, dict[int, StoredFile]] = {}
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

    def _write_crop(self, unit: UnitExamples, example: Example, pixels: Pixels) -> StoredFile:
        content = crop_file(pixels, example.box)
        name = unit.key.crop(example.rank)
        self._write(name, content)
        return StoredFile(name, hashlib.sha256(content).hexdigest())

    def _write_record(self, row: int, unit: UnitExamples) -> None:
        record = encode_examples(
            unit,
            self._files.pop(row),
            images=self._examples.images,
            unreadable=self._examples.unreadable,
            size=self._examples.input_shape[1:],
        )
        self._write(unit.key.examples, record)
        with self._lock:
            self._bar.update()


def file_writer(place: Place | Write | str | os.PathLike[str], layers: Iterable[str]) -> Write:
    """Return a function that writes files to a place.

    Parameters
    ----------
    place
        The place, its address, or such a function.
    layers
        Names of layers in whose folders killed processes may have left unfinished files.

    Raises
    ------
    TypeError
        It is no place.
    """
    if isinstance(place, (str, os.PathLike)):
        place = Place(place)
    if isinstance(place, Place):
        for layer in layers:
            place.tidy(f"{EXAMPLES}/{quoted(layer)}")
        return place.put
    if not callable(place):
        raise TypeError(
            "place must be a folder, a URL, a fvfast.atlas.Place, or a function of a name and "
            f"bytes; got {type(place).__name__}."
        )
    return place
