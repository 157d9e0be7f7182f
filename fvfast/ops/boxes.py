"""Draws the random boxes that MaCo cuts out of an image."""

import dataclasses
from collections.abc import Sequence

import torch

from fvfast.ops.philox import Purpose, random_words, to_normal, to_uniform


@dataclasses.dataclass(frozen=True)
class BoxDistribution:
    """How boxes scatter around a step's box size. All numbers are fractions of the image.

    Attributes
    ----------
    shape
        "normal": side ~ N(box size, spread); "uniform": side ~ U(box size - spread, box size +
        spread).
    spread
        Standard deviation, or half width, of the side.
    center_spread
        Standard deviation of the centre around the middle of the image.
    smallest, largest
        Sides are clamped to this range.
    """

    shape: str = "normal"
    spread: float = 0.05
    center_spread: float = 0.15
    smallest: float = 0.05
    largest: float = 1.0


def draw_boxes(
    box_size: float,
    nb_crops: int,
    *,
    seed: int,
    images: Sequence[int],
    step: int,
    distribution: BoxDistribution | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Draw square boxes (in fractions of the image) for one step.

    Box k of an image uses block k of the counter: its four numbers are the centre's row and column,
    the side, and one that is left unused.

    Parameters
    ----------
    box_size
        Mean side.
    nb_crops
        Boxes per image.
    seed, images, step, device
        See `fvfast.ops.philox.random_words`.
    distribution
        Default: that of Xplique, N(box size, 0.05) clamped to [0.05, 1], centres N(0.5, 0.15).

    Returns
    -------
    boxes
        float32 (N, nb_crops, 4) as (y1, x1, y2, x2). Boxes may reach outside the image.
    """
    distribution = distribution or BoxDistribution()
    words = random_words(
        4 * nb_crops, seed=seed, purpose=Purpose.BOX, images=images, step=step, device=device
    ).unflatten(1, (nb_crops, 4))  # (N, K, 4)
    normal = to_normal(words)
    centers = 0.5 + distribution.center_spread * normal[..., :2]  # (N, K, 2)
    if distribution.shape == "normal":
        deviation = normal[..., 2:3]
    else:
        deviation = 2 * to_uniform(words[..., 2:3]) - 1
    sides = (box_size + distribution.spread * deviation).clamp(
        distribution.smallest, distribution.largest
    )
    return torch.cat((centers - sides / 2, centers + sides / 2), dim=-1)
