"""Boxes in plain PyTorch."""

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
        Standard deviation of the center around the middle of the image.
    smallest, largest
        Sides are clamped to this range.
    """

    shape: str = "normal"
    spread: float = 0.05
    center_spread: float = 0.15
    smallest: float = 0.05
    largest: float = 1.0


def draw_boxes_reference(
    box_size: float | torch.Tensor,
    nb_crops: int,
    *,
    seed: int,
    identities: Sequence[int] | torch.Tensor,
    step: int | torch.Tensor,
    distribution: BoxDistribution | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Draw boxes in plain PyTorch: see `fvfast.ops.boxes.draw_boxes`.

    Parameters
    ----------
    box_size
        Mean side: a number, or a float64 scalar on the device.
    nb_crops, seed, identities, step, distribution, device
        See `fvfast.ops.boxes.draw_boxes`.
    dtype
        float32 or float64, of the arithmetic and of the boxes.

    Returns
    -------
    boxes
        (N, nb_crops, 4) as (y1, x1, y2, x2).
    """
    distribution = distribution or BoxDistribution()
    words = random_words(
        4 * nb_crops,
        seed=seed,
        purpose=Purpose.BOX,
        identities=identities,
        step=step,
        device=device,
    ).unflatten(1, (nb_crops, 4))  # (N, K, 4)
    normal = to_normal(words, dtype)
    centers = 0.5 + distribution.center_spread * normal[..., :2]  # (N, K, 2)
    if distribution.shape == "normal":
        deviation = normal[..., 2:3]
    else:
        deviation = 2 * to_uniform(words[..., 2:3], dtype) - 1
    sides = (box_size + distribution.spread * deviation).clamp(
        distribution.smallest, distribution.largest
    )
    return torch.cat((centers - sides / 2, centers + sides / 2), dim=-1)
