"""One image of a source, before it is decoded, and what a source of images is."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol


class UnreadableError(ValueError):
    """One image cannot be read; the message says why, without its name. Others may be fine."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image.

    Attributes
    ----------
    source
        Where it is from, for people: a path below a folder, a member of an archive.
    label
        Its class; None if unknown.
    load
        Returns the image: the path of a file, what a file holds, or an image, array or tensor. May
        be called in any thread. Raises `UnreadableError`.
    """

    source: str
    label: str | None
    load: Callable[[], Path | bytes | Any]


class ImageSource(Protocol):
    """Images in an order that stays the same.

    Attributes
    ----------
    name
        For people.
    listing
        A checksum of what is known of the images before they are read.
    total
        How many there are; None if that is not known.
    can_repeat
        Whether images can be read again.
    can_pick
        Whether it takes no longer to read a few images in the middle than at the beginning.
    """

    name: str
    listing: str
    total: int | None
    can_repeat: bool
    can_pick: bool

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Yield the images, in order, from a number on."""
        ...


def picked(source: ImageSource, numbers: Iterable[int]) -> Iterator[tuple[int, Sample]]:
    """Yield some images of a source, in order, with their numbers.

    Parameters
    ----------
    source
        The images.
    numbers
        Which of them.

    Raises
    ------
    ValueError
        The source has become shorter.
    """
    wanted = sorted(set(numbers))
    if source.can_pick:
        for number in wanted:
            yield number, next(source.samples(number))
        return
    missing = collections.deque(wanted)
    samples = enumerate(source.samples())
    while missing:
        number, sample = next(samples, (-1, None))
        if sample is None:
            raise ValueError(
                f"{source.name} had more than {missing[0]} images before, and now it has not. "
                "Images must stay as they are until their crops are made."
            )
        if number == missing[0]:
            missing.popleft()
            yield number, sample
