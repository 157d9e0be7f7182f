"""Numbers of each step, and identities, that kernels read from the memory of their device.

What a call is given as a number is fixed when the call is recorded in a CUDA graph. What it is
given as a tensor is read when the kernel runs: of a table, the row of the counter, which is the
step as a tensor. Nothing here copies from a GPU, or waits for one.
"""

from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._checks import WORD, check_device, check_layout, check_words, reject
from fvfast.ops._memory import buffer

Table = tuple[tuple[int, int], int, int]


def split_number(
    function: str, argument: str, value: float | torch.Tensor
) -> tuple[float, torch.Tensor | None]:
    """Split a number of the step into what is known now and what kernels read when they run.

    Parameters
    ----------
    function, argument
        For messages.
    value
        A number, or a float64 tensor (rows,) with a number for each step.

    Returns
    -------
    number, table
        The number is 0 where there is a table; the table is None where there is none.
    """
    if not isinstance(value, torch.Tensor):
        return value, None
    if value.dtype != torch.float64 or value.ndim != 1:
        expected = "a number, or a torch.float64 tensor (rows,) with a number for each step"
        reject(function, argument, expected, f"{value.dtype} {tuple(value.shape)}", TypeError)
    if value.requires_grad:
        reject(function, argument, "a tensor without a gradient", "one that requires it")
    return 0.0, value


def split_identities(
    function: str, identities: Sequence[int] | torch.Tensor
) -> tuple[list[int], torch.Tensor | None]:
    """Split identities into those that are known now and those that kernels read when they run.

    Parameters
    ----------
    function
        For messages.
    identities
        N integers in [0, 2^32), or an int64 tensor (N,) of them.

    Returns
    -------
    identities, table
        The first are empty where there is a table; the table is None where there is none.
    """
    if not isinstance(identities, torch.Tensor):
        return list(identities), None
    if identities.dtype != torch.int64 or identities.ndim != 1:
        expected = "integers, or a torch.int64 tensor (N,) of them"
        got = f"{identities.dtype} {tuple(identities.shape)}"
        reject(function, "identities", expected, got, TypeError)
    return [], identities


def count_identities(identities: Sequence[int], table: torch.Tensor | None) -> int:
    """Return how many images there are identities of."""
    if table is None:
        return len(identities)
    return table.shape[0] if table.ndim else 0  # a scalar is refused later


def check_table(
    operation: str,
    argument: str,
    table: torch.Tensor | None,
    counter: torch.Tensor | None,
    device: torch.device,
    columns: int | None = None,
) -> None:
    """Raise TypeError or ValueError unless kernels can read a number of each step, if any.

    Parameters
    ----------
    operation, argument
        For messages.
    table
        Float64 (rows,), or (rows, columns); or None.
    counter
        The step as a tensor, if it is one.
    device
        Of the operation.
    columns
        None: a row is a single number.
    """
    if table is None:
        return
    shape = "(rows,)" if columns is None else f"(rows, {columns})"
    if table.dtype != torch.float64:
        expected = f"a torch.float64 tensor {shape}, a row for each step"
        reject(operation, argument, expected, table.dtype, TypeError)
    check_layout(operation, argument, table)
    if table.shape[1:] != (() if columns is None else (columns,)) or table.ndim == 0:
        reject(operation, argument, f"a row for each step, {shape}", tuple(table.shape))
    if not 0 < table.shape[0] <= WORD:
        reject(operation, argument, "at least one row, and at most 2^32", tuple(table.shape))
    check_device(operation, argument, table, device)
    if counter is None:
        expected = "the step as a torch.int64 tensor beside a table, of which it says the row"
        reject(operation, argument, expected, "a step that is a number")


def check_identities(
    operation: str,
    identities: Sequence[int],
    table: torch.Tensor | None,
    count: int,
    device: torch.device,
) -> None:
    """Raise TypeError or ValueError unless there is an identity for each image.

    Parameters
    ----------
    operation
        For messages.
    identities
        Integers, of which there must be none where there is a table.
    table
        Int64 (count,), or None.
    count
        Images.
    device
        Of the operation.
    """
    if table is None:
        check_words(operation, "identities", identities, count)
        return
    name = "identity_table"
    if table.dtype != torch.int64:
        reject(operation, name, "a torch.int64 tensor", table.dtype, TypeError)
    check_layout(operation, name, table)
    if table.shape != (count,):
        reject(operation, name, f"({count},), one for each image", tuple(table.shape))
    check_device(operation, name, table, device)
    if identities:
        reject(operation, "identities, identity_table", "one of them", "both")


def check_identity_values(operation: str, table: torch.Tensor | None) -> None:
    """Raise ValueError unless identities are 32-bit words, where that can be read: on the CPU."""
    if table is None or table.device.type != "cpu" or table.numel() == 0:
        return
    for word in table.aminmax():
        if not 0 <= int(word) < WORD:
            reject(operation, "identity_table", "integers in [0, 2^32)", int(word))


def known_row(table: torch.Tensor, counter: torch.Tensor) -> Any:
    """Read what a table, which has one, says of the counter's step: a number, or several."""
    return table[min(max(int(counter.item()), 0), table.shape[0] - 1)].tolist()


def current_row(table: torch.Tensor, counter: torch.Tensor) -> torch.Tensor:
    """Return the same as a tensor, without reading it."""
    row = counter.reshape(1).clamp(0, table.shape[0] - 1)
    return table.index_select(0, row).squeeze(0)


def known_number(number: float, table: torch.Tensor | None, counter: torch.Tensor | None) -> float:
    """Return a number of the step, reading the table if there is one."""
    if table is None or counter is None:
        return number
    value: float = known_row(table, counter)
    return value


def current_number(
    number: float, table: torch.Tensor | None, counter: torch.Tensor | None
) -> float | torch.Tensor:
    """Return a number of the step without reading the table: a float64 scalar if there is one."""
    return number if table is None or counter is None else current_row(table, counter)


def table_argument(table: torch.Tensor | None) -> Table | None:
    """Return a table as the native module takes it: memory, rows, and their distance."""
    return None if table is None else (buffer(table), table.shape[0], table.stride(0))
