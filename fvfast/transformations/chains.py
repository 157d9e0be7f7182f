"""Chains of transformations: those of fvfast that follow each other become one resampling."""

import dataclasses
from collections.abc import Callable, Sequence

import torch

from fvfast._shared.checks import check_images
from fvfast.transformations.resampling import resample
from fvfast.transformations.steps import Step

Transformation = Callable[[torch.Tensor], torch.Tensor]
"""Function from images (N, C, H, W) to images (N, C, H', W')."""


@dataclasses.dataclass(frozen=True)
class RandomSteps:
    """A transformation that draws numbers, and then does what they say.

    Attributes
    ----------
    name
        Of the function that users call, for messages.
    draw
        From the shape (N, H, W) of images to the steps, with the shape (H', W') after them.
    """

    name: str
    draw: Callable[[int, int, int], tuple[Sequence[Step], tuple[int, int]]]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Transform images (N, C, H, W)."""
        return _chain((self,), images)


def compose_transformations(transformations: Sequence[Transformation]) -> Transformation:
    """Apply transformations one after the other.

    Transformations of `fvfast.transformations` that follow each other are applied in one go, which
    is several times faster and differs by rounding alone.

    Parameters
    ----------
    transformations
        Functions (N, C, H, W) -> (N, C, H', W'), first to last. None at all is the identity.

    Returns
    -------
    transformation
        The chain of them.

    Raises
    ------
    TypeError
        If one of them cannot be called.
    """
    functions: list[Transformation] = []
    for function in transformations:
        if not callable(function):
            raise TypeError(
                f"compose_transformations: {function!r} is not a function of images; expected "
                "functions such as random_jitter(6)."
            )
        functions += function.functions if isinstance(function, _Composed) else [function]
    return _Composed(tuple(functions))


@dataclasses.dataclass(frozen=True)
class _Composed:
    functions: tuple[Transformation, ...]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return _chain(self.functions, images)


def _chain(functions: Sequence[Transformation], images: torch.Tensor) -> torch.Tensor:
    steps: list[Step] = []
    size = (0, 0)
    for function in functions:
        if isinstance(function, RandomSteps):
            if not steps:
                check_images(images, function.name)
                size = images.shape[2], images.shape[3]
            drawn, size = function.draw(len(images), *size)
            steps += drawn
        else:
            images, steps = function(resample(images, steps)), []
    return resample(images, steps)
