"""What `fvfast.maco_batch` returns, and how it is put together without a second copy."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from fvfast.engine.passes import is_out_of_memory


class MacoBatch(NamedTuple):
    """Result of `fvfast.maco_batch` for N objectives.

    Attributes
    ----------
    images
        (N, C, H, W), in values_range.
    transparencies
        (N, C, H, W): sums over the steps of the absolute gradient of the image.
    names
        The N names.
    scores
        (N, nb_steps): the scores before each step's update; NaN for steps that were not taken.
    """

    images: torch.Tensor
    transparencies: torch.Tensor
    names: list[str]
    scores: torch.Tensor


class MacoResults:
    """The batches of a run, one after the other in memory that was set aside for all.

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
    nb_steps
        Steps of the run.
    keep
        Whether to keep the images; otherwise they are counted only.

    Raises
    ------
    torch.OutOfMemoryError
        The memory does not hold so many images.
    """

    def __init__(
        self, count: int, image_shape: tuple[int, int, int], nb_steps: int, *, keep: bool
    ) -> None:
        self.done = 0
        self._keep = keep
        rows = count if keep else 0
        try:
            self._images, self._transparencies = (
                torch.empty(rows, *image_shape, dtype=torch.float32, device="cpu") for _ in range(2)
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size = 2 * 4 * rows * math.prod(image_shape) / 2**30
            raise torch.OutOfMemoryError(
                f"{count} images of {' x '.join(map(str, image_shape))} with their transparencies "
                f"take {size:.1f} GiB: pass on_result= to take each batch when it is finished, and "
                "keep=False to keep none."
            ) from error
        self._scores = torch.empty(rows, nb_steps, dtype=torch.float32, device="cpu")
        self._names: list[str] = []

    def add(self, batch: MacoBatch) -> None:
        """Count a batch, and copy it to its place."""
        rows = slice(self.done, self.done + len(batch.names))
        self.done = rows.stop
        if self._keep:
            self._images[rows] = batch.images
            self._transparencies[rows] = batch.transparencies
            self._scores[rows] = batch.scores
            self._names += batch.names

    def whole(self) -> MacoBatch:
        """Return the images that are finished; none where they were not kept."""
        names = list(self._names)
        count = len(names)
        return MacoBatch(
            self._images[:count], self._transparencies[:count], names, self._scores[:count]
        )


def padded_scores(scores: torch.Tensor, nb_steps: int) -> torch.Tensor:
    """Scores (N, steps taken) with NaN for the steps that were not."""
    return F.pad(scores, (0, nb_steps - scores.shape[1]), value=float("nan"))
