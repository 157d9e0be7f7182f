"""Images from Python: lists, data sets, generators."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from typing import Any

from fvfast.atlas.examples.samples import Sample, UnreadableError
from fvfast.files.reading import reason


class ImageIterable:
    """Images of any iterable, each as (image, label, source), (image, label) or image.

    What has a length and takes indices, as a list or a data set of torch or torchvision, is read by
    index, in several threads.

    Parameters
    ----------
    images
        The iterable. An iterator can be read once only.
    """

    def __init__(self, images: Iterable[Any]) -> None:
        self._images: Any = images
        self._by_index = all(hasattr(images, name) for name in ("__getitem__", "__len__"))
        self.can_pick = self._by_index
        self.can_repeat = self._by_index or iter(images) is not images
        self.total: int | None = len(images) if isinstance(images, Sized) else None
        self.name = f"a {type(images).__name__}"
        digest = hashlib.sha256(f"{self.name} {self.total}".encode())
        if isinstance(images, (list, tuple)):
            for number, item in enumerate(images):
                digest.update(repr(_parts(item, number)[1:]).encode("utf-8", "surrogateescape"))
        self.listing = digest.hexdigest()

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Yield the images, in order, from a number on; those before it are passed over."""
        if self._by_index:
            for number in range(start, len(self._images)):
                yield self._sample_at(number)
            return
        for number, item in itertools.islice(enumerate(self._images), start, None):
            image, label, source = _parts(item, number)
            yield Sample(source, label, partial(_same, image))

    def _sample_at(self, number: int) -> Sample:
        if isinstance(self._images, (list, tuple)):
            image, label, source = _parts(self._images[number], number)
            return Sample(source, label, partial(_same, image))
        try:
            item = self._images[number]
        # What data sets raise whose files are damaged.
        except (OSError, ValueError, SyntaxError) as error:
            text = reason(error)

            def fail() -> Any:
                raise UnreadableError(text)

            return Sample(f"image {number}", None, fail)
        image, label, source = _parts(item, number)
        return Sample(source, label, partial(_same, image))


def _same(image: Any) -> Any:
    return image


def _parts(item: Any, number: int) -> tuple[Any, str | None, str]:
    source, label, image = f"image {number}", None, item
    if isinstance(item, Sequence) and not isinstance(item, (str, bytes)):
        if not 1 <= len(item) <= 3:
            raise TypeError(
                f"image {number} is a {type(item).__name__} of {len(item)}; expected (image, "
                "label, source), (image, label) or an image."
            )
        image = item[0]
        label = None if len(item) < 2 or item[1] is None else str(item[1])
        source = source if len(item) < 3 or item[2] is None else str(item[2])
    return image, label, source
