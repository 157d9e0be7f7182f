"""What the runs return, and how a batch is collected without a second copy."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from fvfast._shared.messages import printable, shortened
from fvfast.engine.passes import is_out_of_memory
from fvfast.plot.notebook import gallery, picture_bytes
from fvfast.run.memory_checks import gibibytes, insufficient_memory
from fvfast.run.score_table import joined_scores

T = TypeVar("T", bound="_Result")

_LISTED, _LONGEST_NAME = 5, 40

_ADVICE = "pass on_result= to take each batch when it is finished, and keep=False to keep none."


class _Result:
    """What a run returns: a tuple, which also tells how the run went.

    Attributes
    ----------
    interrupted
        Whether the user interrupted the run, so that steps or images are missing.
    guide
        What guided the run (`fvfast.Guide`), which is drawn beside the picture; empty for nothing.
    """

    interrupted = False
    guide = ""

    @classmethod
    def of(cls: type[T], *values: Any, interrupted: bool = False, guide: str = "") -> T:
        """Make a result of its fields and attributes."""
        made = cls(*values)
        made.interrupted, made.guide = interrupted, guide
        return made


class _MacoImage(NamedTuple):
    image: torch.Tensor
    transparency: torch.Tensor


class MacoImage(_Result, _MacoImage):
    """Result of `fvfast.maco`: a pair.

    Attributes
    ----------
    image
        (C, H, W), or (M, C, H, W) with ``save_every``, in values_range.
    transparency
        Of the same shape: sum over the steps of the absolute gradient of the image.
    interrupted
        Whether the user interrupted the run.
    guide
        What guided the run, for people; empty without a guide.
    """

    def __repr__(self) -> str:
        return f"MacoImage(image of {_sizes(self.image)}{_ended(self)})"

    def _repr_png_(self) -> bytes | None:
        """Return the picture, for notebooks; None for images of several steps."""
        return picture_bytes(self.image, self.transparency) if self.image.ndim == 3 else None


class _MacoBatch(NamedTuple):
    images: torch.Tensor
    transparencies: torch.Tensor
    names: list[str]
    scores: torch.Tensor


class MacoBatch(_Result, _MacoBatch):
    """Result of `fvfast.maco_batch` for N combinations: a tuple of four.

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
    interrupted
        Whether the user interrupted the run: the last image may lack steps, and others are missing.
    guide
        What guided the run, for people; empty without a guide.
    """

    def __repr__(self) -> str:
        return (
            f"MacoBatch({len(self.names)} images of {_sizes(self.images[:1])}, "
            f"{_listed(self.names)}{_ended(self)})"
        )

    def _repr_html_(self) -> str:
        """Return the first pictures with their names, for notebooks."""
        return gallery(self.images, self.transparencies, self.names)


class _OptimizedImages(NamedTuple):
    images: list[torch.Tensor]
    names: list[str]


class OptimizedImages(_Result, _OptimizedImages):
    """Result of `fvfast.optimize` for N combinations: a pair.

    Attributes
    ----------
    images
        List of (N, C, H, W) tensors: one for each kept step, the final one last.
    names
        The N names.
    interrupted
        Whether the user interrupted the run.
    guide
        What guided the run, for people; empty without a guide.
    """

    def __repr__(self) -> str:
        return (
            f"OptimizedImages({len(self.names)} images of {_sizes(self.images[-1][:1])}, "
            f"{_listed(self.names)}{_ended(self)})"
        )

    def _repr_html_(self) -> str:
        """Return the first pictures with their names, for notebooks."""
        return gallery(self.images[-1], None, self.names)


def _sizes(images: torch.Tensor) -> str:
    return " x ".join(map(str, images.shape[1:] if images.ndim == 4 else images.shape))


def _listed(names: Sequence[str]) -> str:
    shown = [shortened(printable(name), _LONGEST_NAME) for name in names[:_LISTED]]
    return ", ".join([*shown, "..."] if len(names) > _LISTED else shown)


def _ended(result: _Result) -> str:
    guide = f", guided by {result.guide}" if result.guide else ""
    return guide + (", interrupted" if result.interrupted else "")


class MacoResults:
    """The batches of a run, in memory that is allocated once for all of them.

    Joining them at the end would need the memory twice: 12 GB for 2048 images of 512 x 512.

    Attributes
    ----------
    done
        Images that are finished.
    interrupted
        Whether the user ended the run.

    Parameters
    ----------
    count
        Images of the whole run.
    image_shape
        (C, H, W).
    keep
        Whether to keep the images, or only to count them.
    guide
        What guided the run.

    Raises
    ------
    torch.OutOfMemoryError
        The memory does not hold this many images.
    """

    def __init__(
        self, count: int, image_shape: tuple[int, int, int], *, keep: bool, guide: str = ""
    ) -> None:
        self.done = 0
        self._guide = guide
        self.interrupted = False
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
        images, transparencies = self._images[:count], self._transparencies[:count]
        return MacoBatch.of(
            images, transparencies, names, scores, interrupted=self.interrupted, guide=self._guide
        )


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join tensors (N, ...) of one shape; their list is emptied, so that none is kept twice."""
    if len(parts) == 1:
        return parts.pop()
    count = len(parts[0])
    whole = parts[0].new_empty(len(parts) * count, *parts[0].shape[1:])
    for index in reversed(range(len(parts))):
        whole[index * count : (index + 1) * count] = parts.pop()
    return whole
