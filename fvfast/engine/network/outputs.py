"""Reads tensors out of what modules return: tensors, tuples, mappings, dataclasses."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

OutputKey = int | str | None


def select_output(output: Any, key: OutputKey = None) -> torch.Tensor | None:
    """Read one tensor of a module's output.

    Parameters
    ----------
    output
        Tensor, or tuple, list, mapping or dataclass that holds tensors, possibly nested.
    key
        Index or name of the entry; None takes the first tensor found.

    Returns
    -------
    tensor
        The tensor, or None when there is none (or no such entry).
    """
    if key is not None:
        found_entries = entries(output)
        return select_output(found_entries[key]) if key in found_entries else None
    if isinstance(output, torch.Tensor):
        return output
    found = (select_output(entry) for entry in entries(output).values())
    return next((tensor for tensor in found if tensor is not None), None)


def entries(output: Any) -> dict[Any, Any]:
    """Return the entries of a tuple, list, mapping or dataclass; empty for anything else."""
    if isinstance(output, Mapping):
        return dict(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if isinstance(output, Sequence) and not isinstance(output, str):
        return dict(enumerate(output))
    return {}
