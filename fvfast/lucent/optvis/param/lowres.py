"""Tensors of low resolution, for what the images of a batch share."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from fvfast._shared.checks import check_count
from fvfast.lucent.optvis.param.color import Parameters
from fvfast.lucent.optvis.param.spatial import checked_deviation, drawn

Offset = int | bool | Sequence[int | bool] | None
_IMAGE_AXES = (2, 3)


def lowres_tensor(
    shape: Sequence[int],
    underlying_shape: Sequence[int],
    offset: Offset = None,
    sd: float | None = 0.01,
) -> Parameters:
    """Make a tensor that is interpolated linearly, along each of its axes, from a smaller one.

    Parameters
    ----------
    shape
        (N, C, H, W) of the result.
    underlying_shape
        Shape of the tensor that is optimized. With 1 image, or another number below N, the images
        of the batch share it.
    offset
        Moves the result, whose beginning is filled by reflection: a number moves height and width,
        a list has a number for each axis. True stands for half of the ratio of the two sizes, False
        for 0.
    sd
        Standard deviation of what is optimized.

    Returns
    -------
    params
        List of the tensor that is optimized.
    image_f
        Function without arguments that returns the tensor (N, C, H, W).

    Raises
    ------
    ValueError
        The shapes do not have four sizes, or the result is too small for the offset.
    """
    sizes = _sizes(shape, "shape")
    small = _sizes(underlying_shape, "underlying_shape")
    shifts = _shifts(offset, sizes, small)
    tensor = drawn(small, checked_deviation(sd, "lowres_tensor"))

    def image() -> torch.Tensor:
        large = tensor
        for axis, (size, shift) in enumerate(zip(sizes, shifts, strict=True)):
            large = _along(large, axis, functools.partial(_interpolated, size=size))
            if shift:
                large = large.index_select(axis, _reflected(size, shift).to(large.device))
        return large

    return [tensor], image


def _sizes(shape: Sequence[int], name: str) -> list[int]:
    sizes = [check_count(size, f"lowres_tensor: a size of {name}", 1) for size in shape]
    if len(sizes) != 4:
        raise ValueError(f"lowres_tensor: {name} is {tuple(shape)}; expected (N, C, H, W).")
    return sizes


def _shifts(offset: Offset, sizes: Sequence[int], small: Sequence[int]) -> list[int]:
    """Return the pixels by which each axis is moved."""
    if offset is None:
        return [0] * len(sizes)
    if isinstance(offset, bool):
        offset = [offset] * len(sizes)
    elif isinstance(offset, int):
        offset = [offset if axis in _IMAGE_AXES else 0 for axis in range(len(sizes))]
    if len(offset) != len(sizes):
        raise ValueError(
            f"lowres_tensor: offset has {len(offset)} entries; expected one for each axis, "
            f"{len(sizes)}, or a single number."
        )
    shifts = []
    for axis, one in enumerate(offset):
        if isinstance(one, bool):
            one = sizes[axis] // small[axis] // 2 if one else 0
        shift = check_count(one, "lowres_tensor: offset", 0)
        if shift >= sizes[axis]:
            raise ValueError(
                f"lowres_tensor: offset {shift} along axis {axis} of shape {tuple(sizes)}; "
                f"expected at most {sizes[axis] - 1}, as many values as reflection has."
            )
        shifts.append(shift)
    return shifts


def _along(
    tensor: torch.Tensor, axis: int, function: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Apply a function of rows (M, 1, size) to the rows along an axis."""
    moved = tensor.movedim(axis, -1)
    rows = function(moved.reshape(-1, 1, moved.shape[-1]))
    return rows.reshape(*moved.shape[:-1], -1).movedim(-1, axis)


def _interpolated(rows: torch.Tensor, size: int) -> torch.Tensor:
    if rows.shape[-1] == size:
        return rows
    return functional.interpolate(rows, size=size, mode="linear", align_corners=True)


def _reflected(size: int, shift: int) -> torch.Tensor:
    """Return where each of ``size`` values comes from if all are moved by ``shift``."""
    return (torch.arange(size, device="cpu") - shift).abs()
