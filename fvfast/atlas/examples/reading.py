"""Reads images in batches, in threads, while the network runs on the batch before."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from fvfast.atlas.examples.pixels import MODES, Pixels, load_pixels
from fvfast.atlas.examples.samples import ImageSource, Sample, UnreadableError
from fvfast.engine.borrowing.interrupts import opened
from fvfast.files.images import MEMORY, pillow_for_many
from fvfast.files.memory_budget import MemoryBudget

_READ_AHEAD = 2  # batches


@dataclasses.dataclass(frozen=True)
class ImageBatch:
    """Images that were read together.

    Attributes
    ----------
    pixels
        uint8 (B, C, H, W).
    numbers
        Where in the source they are.
    samples
        What they are called there.
    unreadable
        Images among them that could not be read, each with the reason.
    end
        The number behind the last image that was tried.
    """

    pixels: torch.Tensor
    numbers: list[int]
    samples: list[Sample]
    unreadable: list[str]
    end: int


@contextlib.contextmanager
def image_batches(
    source: ImageSource,
    input_shape: tuple[int, int, int],
    batch_size: int,
    *,
    start: int = 0,
    threads: int | None = None,
) -> Iterator[Iterator[ImageBatch]]:
    """Read a source in batches, with ``batch_size`` readable images in each but the last.

    The source is iterated in a thread of its own, images are decoded in others. Both end with the
    ``with`` statement.

    Parameters
    ----------
    source
        The images.
    input_shape
        (C, H, W).
    batch_size
        B.
    start
        Number of the first image.
    threads
        How many decode images; None for as many as Python takes by default.
    """
    with (
        pillow_for_many(),
        ThreadPoolExecutor(threads, thread_name_prefix="fvfast-decode") as decoders,
        ThreadPoolExecutor(1, thread_name_prefix="fvfast-read") as reader,
    ):
        batches = _read(source, input_shape, batch_size, start, decoders)
        try:
            yield _ahead(batches, reader)
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
            batches.close()


def _ahead(batches: Iterator[ImageBatch], reader: ThreadPoolExecutor) -> Iterator[ImageBatch]:
    """Yield batches, with the next ones read in the meantime."""
    pending: collections.deque[Future[ImageBatch | None]] = collections.deque(
        reader.submit(next, batches, None) for _ in range(_READ_AHEAD)
    )
    while True:
        batch = opened(pending.popleft().result)
        if batch is None:
            return
        pending.append(reader.submit(next, batches, None))
        yield batch


def _read(
    source: ImageSource,
    input_shape: tuple[int, int, int],
    batch_size: int,
    start: int,
    decoders: ThreadPoolExecutor,
) -> collections.abc.Generator[ImageBatch, None, None]:
    channels, *size = input_shape
    budget = MemoryBudget(MEMORY)

    def load(sample: Sample) -> Pixels | str:
        try:
            return load_pixels(sample, (size[0], size[1]), MODES[channels], budget)
        except UnreadableError as error:
            return f"{sample.source}: {error}"

    samples = iter(enumerate(source.samples(start), start))
    end = start
    while True:
        found: list[tuple[int, Sample, Pixels]] = []
        unreadable: list[str] = []
        while tried := list(itertools.islice(samples, batch_size - len(found))):
            end = tried[-1][0] + 1
            for (number, sample), result in zip(
                tried, decoders.map(load, [sample for _, sample in tried]), strict=True
            ):
                if isinstance(result, str):
                    unreadable.append(result)
                else:
                    found.append((number, sample, result))
        if not found and not unreadable:
            return
        pixels = np.stack([one for _, _, one in found]) if found else np.empty((0, *size, channels))
        yield ImageBatch(
            torch.from_numpy(pixels.astype(np.uint8, copy=False)).permute(0, 3, 1, 2).contiguous(),
            [number for number, _, _ in found],
            [dataclasses.replace(sample, load=_forgotten) for _, sample, _ in found],
            unreadable,
            end,
        )


def _forgotten() -> bytes:
    """Stand for the content of an image that is no longer needed."""
    raise UnreadableError("read before")
