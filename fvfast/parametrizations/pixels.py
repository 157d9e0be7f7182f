"""Pixels as what is optimized, and the map from unbounded values to images."""

from collections.abc import Callable, Sequence

import torch

from fvfast._shared.checks import check_images, check_values_range
from fvfast.ops.colors import recorrelate_colors
from fvfast.ops.philox import Purpose, draw_normal
from fvfast.parametrizations.base import Differentiated
from fvfast.parametrizations.optimizers import OptimizerSpec

Normalizer = str | Callable[[torch.Tensor], torch.Tensor]


class Pixels(Differentiated):
    """The pixels of N images, unbounded.

    Parameters
    ----------
    shape
        (N, C, H, W).
    identities
        Identities of the N images, which with the seed decide the initial pixels.
    seed
        Any integer.
    std
        Standard deviation of the initial pixels.
    to_valid
        From pixels to images.
    optimizer
        See `fvfast.optimize`.
    device
        Where the run takes place.
    start
        (C, H, W): pixels that all images begin with, in the place of random ones.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        identities: Sequence[int],
        *,
        seed: int,
        std: float,
        to_valid: Callable[[torch.Tensor], torch.Tensor],
        optimizer: OptimizerSpec,
        device: torch.device,
        start: torch.Tensor | None = None,
    ) -> None:
        if start is None:
            state = std * draw_normal(
                shape[1:], seed=seed, purpose=Purpose.STATE, identities=identities
            )
        else:
            state = start.repeat(shape[0], 1, 1, 1)
        super().__init__(state.to(device), to_valid, optimizer)

    def pixels(self) -> torch.Tensor:
        """Return the state."""
        return self.state


def _rescale(images: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Stretch each image's values to [low, high]; a constant image becomes ``low``."""
    images = images - images.amin((1, 2, 3), keepdim=True)
    largest = images.amax((1, 2, 3), keepdim=True)
    return images / torch.where(largest > 0, largest, 1) * (high - low) + low


def _normalize(
    images: torch.Tensor, normalizer: Normalizer, low: float, high: float, function: str
) -> torch.Tensor:
    if callable(normalizer):
        return normalizer(images)
    if normalizer == "sigmoid":
        return images.sigmoid()
    if normalizer == "clip":
        return images.clamp(low, high)
    raise ValueError(
        f"{function}: normalizer is {normalizer!r}; expected 'sigmoid', 'clip' or a function of "
        "the images."
    )


def to_valid_rgb(
    images: torch.Tensor,
    normalizer: Normalizer = "sigmoid",
    values_range: Sequence[float] = (0, 1),
) -> torch.Tensor:
    """Map unbounded decorrelated images to RGB images that use the whole range of values.

    The colors are recorrelated, the normalizer applied, and each image stretched so that its
    smallest and largest value are those of the range.

    Parameters
    ----------
    images
        (N, 3, H, W), floating point.
    normalizer
        "sigmoid", "clip" (to ``values_range``) or a function of the recorrelated images.
    values_range
        (low, high) of the result, such as (0, 1) or (-1, 1).

    Returns
    -------
    images
        (N, 3, H, W), values in [low, high]. An image of one value becomes ``low`` everywhere
        (Xplique 2.0: NaN).

    Raises
    ------
    ValueError
        For another shape, normalizer or range.
    """
    low, high = check_values_range(values_range, "to_valid_rgb")
    check_images(images, "to_valid_rgb")
    images = recorrelate_colors(images)
    return _rescale(_normalize(images, normalizer, low, high, "to_valid_rgb"), low, high)


def to_valid_grayscale(
    images: torch.Tensor,
    normalizer: Normalizer = "sigmoid",
    values_range: Sequence[float] = (0, 1),
) -> torch.Tensor:
    """Map unbounded images without colors to images that use the whole range of values.

    As `to_valid_rgb` without the recorrelation, for any number of channels.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    normalizer
        "sigmoid", "clip" (to ``values_range``) or a function of the images.
    values_range
        (low, high) of the result.

    Returns
    -------
    images
        (N, C, H, W), values in [low, high]. An image of one value becomes ``low`` everywhere.

    Raises
    ------
    ValueError
        For another shape, normalizer or range.
    """
    low, high = check_values_range(values_range, "to_valid_grayscale")
    check_images(images, "to_valid_grayscale")
    return _rescale(_normalize(images, normalizer, low, high, "to_valid_grayscale"), low, high)
