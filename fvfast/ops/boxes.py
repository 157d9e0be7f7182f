"""Draws the random boxes that MaCo cuts out of an image.

An operation has four parts, here from the inside out: the reference, the kernel with the schema and
the fake kernel, and the public function, which checks its arguments. There is no gradient.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._checks import (
    LARGEST_FLOAT32,
    WORD,
    check_elements,
    check_float32,
    check_scale,
    check_step,
    check_sum,
    check_words,
    reject,
)
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.philox import (
    Purpose,
    known_step,
    random_words,
    signed,
    split_step,
    to_normal,
    to_uniform,
    whole_step,
)


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
    box_size: float,
    nb_crops: int,
    *,
    seed: int,
    identities: Sequence[int],
    step: int | torch.Tensor,
    distribution: BoxDistribution | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Draw boxes in plain PyTorch: see `draw_boxes`.

    Parameters
    ----------
    box_size, nb_crops, seed, identities, step, distribution, device
        See `draw_boxes`.
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


_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "draw_boxes(float box_size, SymInt nb_crops, str shape, float spread, float center_spread, "
    "float smallest, float largest, SymInt seed, SymInt[] identities, SymInt step, "
    "Tensor? counter, Device device) -> Tensor"
)


def _draw(
    box_size: float,
    nb_crops: int,
    shape: str,
    spread: float,
    center_spread: float,
    smallest: float,
    largest: float,
    seed: int,
    identities: Sequence[int],
    step: int,
    counter: torch.Tensor | None,
    device: torch.device,
) -> torch.Tensor:
    kernels = kernels_for(device)
    if kernels is None:
        return draw_boxes_reference(
            box_size,
            nb_crops,
            seed=seed,
            identities=identities,
            step=whole_step(step, counter),
            distribution=BoxDistribution(shape, spread, center_spread, smallest, largest),
            device=device,
        )
    boxes = torch.empty(len(identities), nb_crops, 4, dtype=torch.float32, device=device)
    on_device = kernels.target is not None
    kernels.module.draw_boxes(
        boxes=buffer(boxes),
        crops=nb_crops,
        box_size=box_size,
        shape=shape,
        spread=spread,
        center_spread=center_spread,
        smallest=smallest,
        largest=largest,
        identities=identities,
        seed=seed % 2**64,
        step=step if on_device else known_step(step, counter),
        counter=buffer(counter if on_device else None),
        target=kernels.target,
    )
    return boxes


def _fake(_box_size: float, nb_crops: int, *arguments: Any) -> torch.Tensor:
    *_, identities, _step, _counter, device = arguments
    return torch.empty(len(identities), nb_crops, 4, dtype=torch.float32, device=device)


def _check_distribution(
    operation: str, distribution: BoxDistribution, prefix: str = "distribution."
) -> None:
    """Check how boxes scatter; `prefix` stands before the names in messages."""
    if distribution.shape not in ("normal", "uniform"):
        reject(operation, f"{prefix}shape", "normal or uniform", distribution.shape)
    for name in ("spread", "center_spread"):
        value = getattr(distribution, name)
        check_scale(operation, f"{prefix}{name}", value)
        check_float32(operation, f"{prefix}{name}", value)
    smallest, largest = distribution.smallest, distribution.largest
    if not -LARGEST_FLOAT32 <= smallest <= largest <= LARGEST_FLOAT32:
        expected = "finite numbers of float32, smallest <= largest"
        reject(operation, f"{prefix}largest", expected, f"smallest {smallest}, largest {largest}")


def _check(
    operation: str,
    box_size: float,
    nb_crops: int,
    shape: str,
    spread: float,
    center_spread: float,
    smallest: float,
    largest: float,
    _seed: int,
    identities: Sequence[int],
    step: int,
    counter: torch.Tensor | None,
    device: torch.device,
) -> None:
    check_float32(operation, "box_size", box_size)
    if not 0 <= nb_crops <= WORD:
        reject(operation, "nb_crops", "an integer in [0, 2^32]", nb_crops)
    check_elements(operation, "nb_crops", (len(identities), nb_crops, 4))
    check_words(operation, "identities", identities, len(identities))
    distribution = BoxDistribution(shape, spread, center_spread, smallest, largest)
    _check_distribution(operation, distribution, prefix="")
    check_step(operation, step, counter, device)


def _check_memory(operation: str, *arguments: Any) -> None:
    *_, step, counter, device = arguments
    check_memory(operation, [], [("counter", counter)])
    check_sum(operation, step, counter)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        # Which error torch raises for a device that does not exist depends on its type.
        raise RuntimeError(
            f"{operation}(): device: expected one that torch can use, got {device}: {error}"
        ) from error


# No argument is a tensor whose device would choose the kernel: `_draw` chooses it.
register(
    _library,
    "draw_boxes",
    check=_check,
    check_memory=_check_memory,
    kernel=_draw,
    reference=_draw,
    fake=_fake,
)


def draw_boxes(
    box_size: float,
    nb_crops: int,
    *,
    seed: int,
    identities: Sequence[int],
    step: int | torch.Tensor,
    distribution: BoxDistribution | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Draw square boxes (in fractions of the image) for one step.

    Box k of an image uses block k of the counter: its four numbers are the center's row and column,
    the side, and one that is left unused.

    Parameters
    ----------
    box_size
        Mean side.
    nb_crops
        Boxes per image.
    seed, identities, step, device
        See `fvfast.ops.philox.random_words`.
    distribution
        Default: that of Xplique, N(box size, 0.05) clamped to [0.05, 1], centers N(0.5, 0.15).

    Returns
    -------
    boxes
        float32 (N, nb_crops, 4) as (y1, x1, y2, x2). Boxes may reach outside the image.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    distribution = distribution or BoxDistribution()
    _check_distribution("draw_boxes", distribution)
    number, counter = split_step("draw_boxes", step)
    boxes: torch.Tensor = torch.ops.fvfast.draw_boxes(
        box_size,
        nb_crops,
        distribution.shape,
        distribution.spread,
        distribution.center_spread,
        distribution.smallest,
        distribution.largest,
        signed(seed),
        list(identities),
        number,
        counter,
        torch.device(device),
    )
    return boxes
