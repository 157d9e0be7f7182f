"""The epilogue of a convolution in plain PyTorch."""

from collections.abc import Sequence

import torch


def convolution_epilogue_reference(
    output: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> torch.Tensor:
    """Do what `convolution_epilogue_` does, but return the result: one rounding at the end."""
    wide = torch.float64 if output.dtype == torch.float64 else torch.float32
    values = output.to(wide)
    if bias is not None:
        values = values + bias.to(wide)[:, None, None]
    if term is not None:
        values = values + term.to(wide)
    if limits is not None:
        values = values.clamp(*limits)
    return values.to(output.dtype)
