"""What a random transformation does once its numbers are drawn: linear, and along each axis alone.

A step can be applied to images, or to the weights with which earlier steps read an image along
one of its axes (see `fvfast.transformations.resampling`).
"""

import dataclasses
from typing import Protocol

import torch
from torch.nn import functional

from fvfast._shared.checks import check_images


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize as tf.image.resize does by default: bilinear, half-pixel centers, no antialiasing.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    size
        (H', W') of the result, each at least 1.

    Returns
    -------
    images
        (N, C, H', W').

    Raises
    ------
    ValueError
        If the images have another shape or a size is below 1.
    """
    check_images(images, "resize")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"resize: size is {tuple(size)}; expected (height, width), each >= 1.")
    return functional.interpolate(images, size, mode="bilinear", align_corners=False)


class Step(Protocol):
    """One transformation of images (N, C, H, W), with its numbers drawn."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the transformed images (N, C, H', W')."""
        ...

    def along(self, axis: int, weights: torch.Tensor) -> torch.Tensor:
        """Apply it to the rows of weights (V, rows, columns).

        Row i of the weights holds how pixel i along this axis (0: height, 1: width) is made of the
        pixels of the image that came first.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Crop:
    """Keep the pixels from ``corner`` on: ``size`` of them, as (vertical, horizontal)."""

    corner: tuple[int, int]
    size: tuple[int, int]

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the part of the images, a view of them."""
        return images.narrow(2, self.corner[0], self.size[0]).narrow(
            3, self.corner[1], self.size[1]
        )

    def along(self, axis: int, weights: torch.Tensor) -> torch.Tensor:
        """Keep some of the rows."""
        return weights.narrow(1, self.corner[axis], self.size[axis])


@dataclasses.dataclass(frozen=True)
class Pad:
    """Add a border of ``size`` pixels of one value."""

    size: int
    value: float

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images with their border."""
        return functional.pad(images, (self.size,) * 4, value=self.value)

    def along(self, axis: int, weights: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Add rows of zeros: nothing of the image is in the border."""
        return functional.pad(weights, (0, 0, self.size, self.size))


@dataclasses.dataclass(frozen=True)
class Resize:
    """Resize to ``size`` (height, width): see `resize`."""

    size: tuple[int, int]

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the resized images."""
        return resize(images, self.size)

    def along(self, axis: int, weights: torch.Tensor) -> torch.Tensor:
        """Interpolate between rows."""
        return resize(weights[:, None], (self.size[axis], weights.shape[2]))[:, 0]


@dataclasses.dataclass(frozen=True)
class Blur:
    """Convolve both axes with a kernel (K,), with zeros around the image."""

    kernel: torch.Tensor

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the blurred images."""
        planes = images.flatten(0, 1)[:, None]  # (N * C, 1, H, W)
        # One axis after the other, since a Gaussian is a product.
        rows = self._convolve(planes, horizontal=False)
        return self._convolve(rows, horizontal=True).reshape(images.shape)

    def along(self, axis: int, weights: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Convolve the rows."""
        return self._convolve(weights[:, None], horizontal=False)[:, 0]

    def _convolve(self, planes: torch.Tensor, *, horizontal: bool) -> torch.Tensor:
        size = len(self.kernel)
        before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
        kernel = self.kernel.to(planes)[None, None]
        if horizontal:
            return functional.conv2d(functional.pad(planes, (before, after)), kernel[:, :, None])
        padded = functional.pad(planes, (0, 0, before, after))
        return functional.conv2d(padded, kernel[..., None])


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirror some of the images along one axis (0: height, 1: width).

    Attributes
    ----------
    axis
        0 exchanges top and bottom, 1 left and right.
    mirrored
        (N,), bool: which images.
    """

    axis: int
    mirrored: torch.Tensor

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images, mirrored or not."""
        chosen = self.mirrored.to(images.device)[:, None, None, None]
        return torch.where(chosen, images.flip(2 + self.axis), images)

    def along(self, axis: int, weights: torch.Tensor) -> torch.Tensor:
        """Return the weights of a mirrored image."""
        return weights.flip(1) if axis == self.axis else weights
