"""Several steps as one resampling: two products with small matrices in place of a pass for each.

Steps are linear (but for the value of a border) and work along each axis alone, so a chain of them
is Y X Z^T: X a channel of an image, Y and Z the weights of rows and columns. Weights are small, so
the steps are applied to them in float64, and to the pixels all at once.
"""

import dataclasses
from collections.abc import Sequence

import torch

from fvfast.transformations.steps import Blur, Crop, Flip, Pad, Resize, Step

_MIXING = (Resize, Blur)


def resample(images: torch.Tensor, steps: Sequence[Step]) -> torch.Tensor:
    """Apply steps to images: in one go where that saves passes over the pixels.

    Parameters
    ----------
    images
        (N, C, H, W).
    steps
        First to last, with numbers drawn for these images.

    Returns
    -------
    images
        (N, C, H', W'): what the steps give one after the other, up to rounding.
    """
    if len(steps) < 2 or not any(isinstance(step, _MIXING) for step in steps):
        for step in steps:
            images = step.apply(images)
        return images
    shifts = _leading_shifts(steps)
    rows, columns = (_AxisWeights.shifted(images.shape[2 + axis], shifts, axis) for axis in (0, 1))
    borders: list[float] = []
    for step in steps[len(shifts) :]:
        if isinstance(step, Pad) and step.value != 0:
            # Ones within a border of zeros are m; a border of v is v (1 - m), of two terms.
            borders += [-step.value, step.value]
        rows, columns = rows.then(step, 0), columns.then(step, 1)
    return _apply(images, rows.trimmed(), columns.trimmed(), borders)


def _leading_shifts(steps: Sequence[Step]) -> list[Crop | Pad]:
    """Return the steps before the first one that does more than choose pixels."""
    shifts: list[Crop | Pad] = []
    for step in steps:
        if not (isinstance(step, Crop) or (isinstance(step, Pad) and step.value == 0)):
            break
        shifts.append(step)
    return shifts


@dataclasses.dataclass(frozen=True)
class _AxisWeights:
    """How pixels along one axis are made of the pixels of an image.

    Attributes
    ----------
    start
        First pixel of the image that has weights.
    pixels
        (V, count, window), float64: weights of the pixels from ``start`` on; V is 1, or the number
        of versions where some images of the batch are mirrored.
    constants
        (V, count, K): this axis' factor of each of K constant images that are added.
    version
        (N,): which of the versions each image takes; None where there is one.
    """

    start: int
    pixels: torch.Tensor
    constants: torch.Tensor
    version: torch.Tensor | None = None

    @classmethod
    def shifted(cls, size: int, shifts: Sequence[Crop | Pad], axis: int) -> "_AxisWeights":
        """Return the weights of crops and of borders of zeros: those of the pixels in sight."""
        first, count = 0, size
        for step in shifts:
            if isinstance(step, Crop):
                first, count = first + step.corner[axis], step.size[axis]
            else:
                first, count = first - step.size, count + 2 * step.size
        # One pixel without weights where the image is out of sight.
        start, end = min(max(first, 0), size - 1), max(min(first + count, size), 1)
        pixels = torch.zeros(count, max(end - start, 1), dtype=torch.float64, device="cpu")
        pixels.diagonal(first - start).fill_(1)
        return cls(start, pixels[None], pixels.new_empty(1, count, 0))

    def then(self, step: Step, axis: int) -> "_AxisWeights":
        """Return the weights after one more step."""
        if isinstance(step, Flip):
            return self._then_flip(step) if step.axis == axis else self
        if isinstance(step, _MIXING):
            return self.trimmed()._extended(step, axis)
        return self._extended(step, axis)

    def _extended(self, step: Step, axis: int) -> "_AxisWeights":
        weights = self.pixels
        if self.constants.shape[2]:
            weights = torch.cat([weights, self.constants], 2)
        if isinstance(step, Pad) and step.value != 0:
            inside = torch.ones_like(weights[..., :1])
            weights = step.along(axis, torch.cat([weights, inside], 2))
            weights = torch.cat([weights, torch.ones_like(weights[..., :1])], 2)
        else:
            weights = step.along(axis, weights)
        pixels, constants = weights.tensor_split([self.pixels.shape[2]], 2)
        return dataclasses.replace(self, pixels=pixels, constants=constants)

    def _then_flip(self, step: Flip) -> "_AxisWeights":
        before = torch.zeros_like(step.mirrored, dtype=torch.long)
        if self.version is not None:
            before = self.version
        used, version = torch.unique(2 * before + step.mirrored, return_inverse=True)

        def versions(weights: torch.Tensor) -> torch.Tensor:
            both = torch.stack([weights, step.along(step.axis, weights)], 1)
            return both.flatten(0, 1)[used]

        return _AxisWeights(self.start, versions(self.pixels), versions(self.constants), version)

    def trimmed(self) -> "_AxisWeights":
        """Return the weights without the pixels at both ends that nothing reads any more."""
        (read,) = self.pixels.any(1).any(0).nonzero(as_tuple=True)
        first, end = (int(read[0]), int(read[-1]) + 1) if len(read) else (0, 1)
        pixels = self.pixels[:, :, first:end]
        return dataclasses.replace(self, start=self.start + first, pixels=pixels)

    def of_images(self, weights: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return weights, or constants, of each image: (N or 1, 1, count, ...)."""
        chosen = weights if self.version is None else weights[self.version]
        return chosen.to(like)[:, None]


def _apply(
    images: torch.Tensor, rows: _AxisWeights, columns: _AxisWeights, borders: Sequence[float]
) -> torch.Tensor:
    # Weights of half precision would be a coarser picture than the steps one by one.
    working = images.to(torch.promote_types(images.dtype, torch.float32))
    read = working.narrow(2, rows.start, rows.pixels.shape[2]).narrow(
        3, columns.start, columns.pixels.shape[2]
    )
    vertical = rows.of_images(rows.pixels, read)
    horizontal = columns.of_images(columns.pixels, read)
    views = vertical @ read @ horizontal.mT
    if borders:
        scaled = rows.constants * rows.constants.new_tensor(borders)
        views = views + rows.of_images(scaled, read) @ columns.of_images(columns.constants, read).mT
    return views.to(images.dtype)
