"""Checks the numbers of directions before anything is made of them."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

LARGEST = 8 * 2**30
"""Most bytes that directions may take, in float32: two million of 1024 channels."""


def as_directions(values: Any, what: str) -> torch.Tensor:
    """Return directions as float32 on the CPU, in memory of their own.

    Parameters
    ----------
    values
        (N, C), or (C,) for one direction: a tensor or an array of real numbers.
    what
        What they are of, for messages.

    Returns
    -------
    directions
        (N, C).

    Raises
    ------
    ValueError
        They are something else, too large, or not finite.
    """
    tensor = _as_tensor(values, what)
    shape = tuple(tensor.shape)
    size = 4 * math.prod(shape)
    if size > LARGEST:
        raise ValueError(
            f"{what} takes {size / 2**30:.1f} GiB as float32; expected at most "
            f"{LARGEST / 2**30:.0f} GiB. Save a part of the directions, as an array of their own."
        )
    directions = torch.empty(shape if len(shape) == 2 else (1, *shape), device="cpu")
    directions.copy_(tensor.detach())
    _check_finite(directions, what)
    return directions


def _as_tensor(values: Any, what: str) -> torch.Tensor:
    if isinstance(values, np.ndarray):
        is_real = values.dtype.kind in "iuf"
    elif isinstance(values, torch.Tensor):
        is_dense = values.layout is torch.strided and not values.is_meta and not values.is_quantized
        is_real = is_dense and not values.is_complex() and values.dtype != torch.bool
    else:
        raise ValueError(f"{what} is a {type(values).__name__}; expected an array of numbers.")
    if values.ndim not in (1, 2) or 0 in values.shape or not is_real:
        kind = str(values.dtype).removeprefix("torch.")
        raise ValueError(
            f"{what} has an array of shape {tuple(values.shape)} and {kind}; expected real numbers "
            "of shape (C,) for one direction, or (N, C) for several."
        )
    return values if isinstance(values, torch.Tensor) else _of_array(values)


def _of_array(array: NDArray[Any]) -> torch.Tensor:
    # torch takes neither the other byte order nor long doubles.
    with np.errstate(over="ignore"):  # infinite numbers are refused later
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _check_finite(directions: torch.Tensor, what: str) -> None:
    # The sum of a row is finite where its numbers are, but for very large ones.
    for row in (~directions.sum(1).isfinite()).nonzero()[:, 0].tolist():
        if not bool(directions[row].isfinite().all()):
            raise ValueError(
                f"{what}: direction {row} has values that are not finite; expected finite numbers."
            )
