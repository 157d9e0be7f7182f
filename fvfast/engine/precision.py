"""The types that a network can run in."""

from typing import Literal, get_args

import torch

PrecisionName = Literal["float32", "bfloat16", "float16", "auto"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
Precision = PrecisionName | None
"""None is the network's own type."""


def check_precision(precision: Precision) -> Precision:
    """Return a precision; raise ValueError unless it is a known one."""
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}, or None for the network's own "
            f"type; got {precision!r}."
        )
    return precision


def dtype_of(precision: str) -> torch.dtype:
    """Return the type of a precision other than "auto"."""
    dtype = getattr(torch, precision)
    assert isinstance(dtype, torch.dtype)
    return dtype


def half_types(device: torch.device) -> list[torch.dtype]:
    """List the 16-bit types that may be faster than float32 on a device."""
    if device.type == "cuda":
        # bfloat16 first: if both are equally fast, it is better, as it has the range of float32.
        brain = [torch.bfloat16] if torch.cuda.is_bf16_supported(including_emulation=False) else []
        return [*brain, torch.float16]
    return [torch.bfloat16]
