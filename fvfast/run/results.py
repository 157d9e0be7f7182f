"""What `fvfast.maco_batch` returns, and how it is collected without a second copy."""

import math
from typing import NamedTuple

import torch

from fvfast.engine.passes import is_out_of_memory
from fvfast.run.memory_checks import gibibytes, insufficient_memory
from fvfast.run.score_table import joined_scores

_ADVICE = "pass on_result= to take each batch when it is finished, and keep=False to keep none."


class MacoBatch(NamedTuple):
    """Result of `fvfast.maco_batch` for N combinations.

    Attributes
    ----------
    images
        (N, C, H, W), in values_range.
    transparencies
        (N, C, H, W): sums over the steps of the absolute gradient of the image.
    names
        The N names.
    scores
        (N, S): the scores before each step's update. S is the largest number of steps that an
        image took; NaN for steps that it did not take.
    """

    images: torch.Tensor
    transparencies: torch.Tensor
    names: list[str]
    scores: torch.Tensor


class MacoResults:
    """The batches of a run, in memory that is allocated once for all of them.

    Joining them at the end would need the memory twice: 12 GB for 2048 images of 512 x 512.

    Attributes
    ----------
    done
        Images that are finished.

    Parameters
    ----------
    count
        Images of the whole run.
    image_shape
        (C, H, W).
    keep
        Whether to keep the images, or only to count them.

    Raises
    ------
    torch.OutOfMemoryError
        The memory does not hold this many images.
    """

    def __init__(self, count: int, image_shape: tuple[int, int, int], *, keep: bool) -> None:
        self.done = 0
        self._steps = 0
        self._keep = keep
        rows = count if keep else 0
        size = 2 * torch.float32.itemsize * rows * math.prod(image_shape)
        what = f"{count} images of {' x '.join(map(str, image_shape))} with their transparencies"
        free = insufficient_memory(size, torch.device("cpu"))
        if free is not None:
            raise torch.OutOfMemoryError(
                f"{what} take {gibibytes(size)}, but {gibibytes(free)} are free: {_ADVICE}"
            )
        try:
            self._images, self._transparencies = (
                torch.empty(rows, *image_shape, dtype=torch.float32, device="cpu") for _ in range(2)
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise torch.OutOfMemoryError(
                f"{what} take {gibibytes(size)}, which the system refuses: {_ADVICE}"
            ) from error
        self._scores: list[torch.Tensor] = []
        self._names: list[str] = []

    def add(self, batch: MacoBatch) -> None:
        """Count a batch, and copy it to its place."""
        rows = slice(self.done, self.done + len(batch.names))
        self.done = rows.stop
        self._steps = max(self._steps, batch.scores.shape[1])
        if self._keep:
            self._images[rows] = batch.images
            self._transparencies[rows] = batch.transparencies
            self._scores.append(batch.scores)
            self._names += batch.names

    def whole(self) -> MacoBatch:
        """Return the images that are finished; none where they were not kept."""
        names = list(self._names)
        count = len(names)
        scores = joined_scores(self._scores, self._steps)
        return MacoBatch(self._images[:count], self._transparencies[:count], names, scores)


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join tensors (N, ...) of one shape; their list is emptied, so that none is kept twice."""
    if len(parts) == 1:
        return parts.pop()
    count = len(parts[0])
    whole = parts[0].new_empty(len(parts) * count, *parts[0].shape[1:])
    for index in reversed(range(len(parts))):
        whole[index * count : (index + 1) * count] = parts.pop()
    return whole
