"""Draws the random boxes that MaCo cuts out of an image.

An operation has four parts, here from the inside out: the reference, the kernel with the schema and
the fake kernel, and the public function, which checks its arguments. There is no gradient.
"""

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
    reject,
)
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops._tables import (
    check_identities,
    check_identity_values,
    check_table,
    count_identities,
    current_number,
    known_number,
    split_identities,
    split_number,
    table_argument,
)
from fvfast.ops.philox import known_step, signed, split_step, whole_step
from fvfast.ops.reference.boxes import BoxDistribution, draw_boxes_reference

__all__ = ["BoxDistribution", "draw_boxes", "draw_boxes_reference"]

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "draw_boxes(float box_size, SymInt nb_crops, str shape, float spread, float center_spread, "
    "float smallest, float largest, SymInt seed, SymInt[] identities, SymInt step, "
    "Tensor? counter, Tensor? box_size_table, Tensor? identity_table, Device device) -> Tensor"
)


def draw(
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
    box_size_table: torch.Tensor | None,
    identity_table: torch.Tensor | None,
    device: torch.device,
) -> torch.Tensor:
    """Do what the operation does, without its checks."""
    kernels = kernels_for(device)
    if kernels is None:
        return draw_boxes_reference(
            current_number(box_size, box_size_table, counter),
            nb_crops,
            seed=seed,
            identities=identities if identity_table is None else identity_table,
            step=whole_step(step, counter),
            distribution=BoxDistribution(shape, spread, center_spread, smallest, largest),
            device=device,
        )
    images = count_identities(identities, identity_table)
    boxes = torch.empty(images, nb_crops, 4, dtype=torch.float32, device=device)
    if kernels.target is None:  # memory of the CPU is read here
        box_size = known_number(box_size, box_size_table, counter)
        identities = identities if identity_table is None else identity_table.tolist()
        step = known_step(step, counter)
        counter = box_size_table = identity_table = None
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
        step=step,
        counter=buffer(counter),
        box_size_table=table_argument(box_size_table),
        identity_table=table_argument(identity_table),
        target=kernels.target,
    )
    return boxes


def _fake(_box_size: float, nb_crops: int, *arguments: Any) -> torch.Tensor:
    *_, identities, _step, _counter, _box_size_table, identity_table, device = arguments
    images = count_identities(identities, identity_table)
    return torch.empty(images, nb_crops, 4, dtype=torch.float32, device=device)


def check_distribution(
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
    box_size_table: torch.Tensor | None,
    identity_table: torch.Tensor | None,
    device: torch.device,
) -> None:
    check_float32(operation, "box_size", box_size)
    if not 0 <= nb_crops <= WORD:
        reject(operation, "nb_crops", "an integer in [0, 2^32]", nb_crops)
    images = count_identities(identities, identity_table)
    check_identities(operation, identities, identity_table, images, device)
    check_elements(operation, "nb_crops", (images, nb_crops, 4))
    distribution = BoxDistribution(shape, spread, center_spread, smallest, largest)
    check_distribution(operation, distribution, prefix="")
    check_step(operation, step, counter, device)
    check_table(operation, "box_size_table", box_size_table, counter, device)


def _check_memory(operation: str, *arguments: Any) -> None:
    *_, step, counter, box_size_table, identity_table, device = arguments
    read = [("counter", counter), ("box_size_table", box_size_table)]
    check_memory(operation, [], [*read, ("identity_table", identity_table)])
    check_sum(operation, step, counter)
    check_identity_values(operation, identity_table)
    if box_size_table is not None and box_size_table.device.type == "cpu":
        value = known_number(0.0, box_size_table, counter)
        check_float32(operation, "box_size_table", value)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        # Which error torch raises for a device that does not exist depends on its type.
        raise RuntimeError(
            f"{operation}(): device: expected one that torch can use, got {device}: {error}"
        ) from error


# No argument is a tensor whose device would choose the kernel: `draw` chooses it.
register(
    _library,
    "draw_boxes",
    check=_check,
    check_memory=_check_memory,
    kernel=draw,
    reference=draw,
    fake=_fake,
)


def draw_boxes(
    box_size: float | torch.Tensor,
    nb_crops: int,
    *,
    seed: int,
    identities: Sequence[int] | torch.Tensor,
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
        Mean side. With a `step` that is a tensor, it may be a float64 tensor (rows,) on the device:
        the box is that of row min(step, rows - 1), to the bit as if it were given as a number. On a
        GPU its numbers are not checked.
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
    TypeError
        If a tensor is of another type.
    ValueError
        If an argument is out of range, or tensors are on another device than the boxes.
    """
    distribution = distribution or BoxDistribution()
    check_distribution("draw_boxes", distribution)
    number, counter = split_step("draw_boxes", step)
    side, box_size_table = split_number("draw_boxes", "box_size", box_size)
    words, identity_table = split_identities("draw_boxes", identities)
    boxes: torch.Tensor = torch.ops.fvfast.draw_boxes(
        side,
        nb_crops,
        distribution.shape,
        distribution.spread,
        distribution.center_spread,
        distribution.smallest,
        distribution.largest,
        signed(seed),
        words,
        number,
        counter,
        box_size_table,
        identity_table,
        torch.device(device),
    )
    return boxes
