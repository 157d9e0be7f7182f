"""The crops by which pictures are judged: the same for every picture, whatever its size."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fvfast._shared.checks import check_count, check_images, check_seed
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.ops.crop_resize import crop_and_resize_grouped

EVALUATION_CROPS = 16
"""Default number of crops by which a picture is judged."""
SMALLEST_SIDE, LARGEST_SIDE = 0.25, 0.9
"""Range of the sides of these crops, as fractions of the picture. The first crop is all of it."""


def evaluation_boxes(count: int = EVALUATION_CROPS, seed: int = 0) -> torch.Tensor:
    """Return the boxes of the crops by which pictures are judged.

    The first box is the whole picture. The sides of the others are spaced evenly from 0.25 to 0.9
    of the picture, smallest first. Their centers are drawn from N(0.5, 0.15), as in all published
    recipes of MaCo, and moved so that the box lies inside the picture: what a library fills the
    outside with has no effect.

    Parameters
    ----------
    count
        Number of boxes, at least 1.
    seed
        Any integer; decides the centers.

    Returns
    -------
    boxes
        float32 (count, 4) as (y1, x1, y2, x2) in fractions of the picture, in [0, 1]. The same
        on every machine, up to rounding.

    Raises
    ------
    TypeError, ValueError
        ``count`` or ``seed`` is not valid.
    """
    count = check_count(count, "count", 1)
    # (K - 1, 1), in the type of the boxes, not in the program's default type.
    sides = torch.linspace(
        SMALLEST_SIDE, LARGEST_SIDE, count - 1, dtype=torch.float32, device="cpu"
    ).unsqueeze(1)
    drawn = draw_boxes(
        LARGEST_SIDE,
        count - 1,
        seed=check_seed(seed),
        identities=[0],
        step=0,
        distribution=BoxDistribution(spread=0.0),
    )[0]
    centers = (drawn[:, :2] + drawn[:, 2:]) / 2
    low = torch.minimum((centers - sides / 2).clamp(min=0.0), 1.0 - sides)
    high = (low + sides).clamp(max=1.0)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float32, device="cpu")
    return torch.cat([whole, torch.cat([low, high], dim=1)])


def evaluation_crops(
    images: torch.Tensor, size: Sequence[int], boxes: torch.Tensor | None = None
) -> torch.Tensor:
    """Cut the crops by which pictures are judged.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    size
        (height, width) of the crops, in pixels.
    boxes
        (K, 4), see `evaluation_boxes`, which is the default.

    Returns
    -------
    crops
        float32 (N, K, C, height, width), resampled bilinearly. A picture with more pixels than a
        crop needs is first reduced with antialiasing, so that a large picture is not judged by the
        few pixels that are sampled.

    Raises
    ------
    ValueError
        The images are empty or not finite, or a box does not lie in the picture.
    """
    check_pictures(images, "evaluation_crops")
    boxes = _checked_boxes(boxes)
    height, width = size
    images = images.detach().float()
    crops = []
    for box in boxes:
        y1, x1, y2, x2 = box.tolist()
        smaller = (
            min(images.shape[2], math.ceil(height / (y2 - y1))),
            min(images.shape[3], math.ceil(width / (x2 - x1))),
        )
        reduced = images
        if smaller != tuple(images.shape[2:]):
            reduced = F.interpolate(images, smaller, mode="bilinear", antialias=True)
        grouped = box.to(images.device).expand(len(images), 1, 4)
        crops.append(crop_and_resize_grouped(reduced, grouped, (height, width)))
    return torch.cat(crops, dim=1)


def check_pictures(
    images: torch.Tensor, function: str, channels: int | None = None, *, name: str = "images"
) -> None:
    """Raise TypeError or ValueError unless ``images`` is a batch of finite pictures.

    Parameters
    ----------
    images
        Expected to be (N, C, H, W), floating point, N >= 1.
    function, name
        Names of the calling function and of its argument, for messages.
    channels
        C; None for any number.
    """
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{function}: {name} must be a tensor, got {type(images).__name__}.")
    check_images(images, function)
    if not len(images):
        raise ValueError(f"{function}: {name} is empty; expected at least one picture.")
    if not images.is_floating_point():
        raise ValueError(
            f"{function}: {name} are {images.dtype}; expected floating point, in the range that "
            "they were made with."
        )
    if channels is not None and images.shape[1] != channels:
        raise ValueError(
            f"{function}: {name} have {images.shape[1]} channels; the network takes {channels}."
        )
    if not bool(images.isfinite().all()):
        raise ValueError(
            f"{function}: {name} hold values that are not finite (NaN or infinity); the "
            "optimization that made them has diverged."
        )


def _checked_boxes(boxes: torch.Tensor | None) -> torch.Tensor:
    """Return boxes (K, 4) on the CPU; raise ValueError unless each lies in the picture."""
    if boxes is None:
        return evaluation_boxes()
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(
            f"boxes have shape {tuple(boxes.shape)}; expected (K, 4) as y1, x1, y2, x2, K >= 1."
        )
    boxes = boxes.detach().to("cpu", torch.float32)
    inside = (boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= 1)
    if not bool(inside.all()):
        wrong = boxes[~inside.all(1)][0].tolist()
        raise ValueError(f"a box is {wrong}; expected 0 <= y1 < y2 <= 1 and 0 <= x1 < x2 <= 1.")
    return boxes
