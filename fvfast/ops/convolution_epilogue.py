"""The epilogue of a convolution: bias, sum and activation in one pass over its output.

On a GPU, torch adds the bias, adds the other term and applies the activation one after the other,
and each of these reads and writes the whole output.
"""

from collections.abc import Sequence

import torch

from fvfast.ops._checks import FLOATING, check_alike, check_limits, check_type, reject
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.reference.convolution_epilogue import convolution_epilogue_reference

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "convolution_epilogue_(Tensor(a!) output, Tensor? bias, Tensor? term, float[]? limits) -> ()"
)


def has_epilogue_kernel(device: torch.device) -> bool:
    """Whether there is a kernel for a device: the reference is slower than torch's own calls."""
    return kernels_for(device) is not None


def convolution_epilogue_(
    output: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    term: torch.Tensor | None = None,
    limits: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Add a bias and a term to a convolution's output and clamp the sum, in place.

    Computed in float32 (float64 in that type) and rounded once. NaN stays NaN, as in torch's own
    activations. Nothing is recorded for autograd.

    Parameters
    ----------
    output
        (B, C, H, W). Fast where it is contiguous, or channels last; with other strides it is copied
        there and back.
    bias
        (C,), or None.
    term
        (B, C, H, W), added before clamping, or None. In another memory format than the output it is
        copied first.
    limits
        Smallest and largest value, such as (0, inf) for ReLU; None: none.

    Returns
    -------
    output
        The tensor that was given.

    Raises
    ------
    TypeError
        Something is not a tensor, or not of the output's type.
    ValueError
        Shapes or limits do not fit, tensors are not on the output's device, or elements of the
        output share memory with each other or with what is added.
    """
    torch.ops.fvfast.convolution_epilogue_(output, bias, term, limits)
    return output


def _reference_(
    output: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> None:
    output.copy_(convolution_epilogue_reference(output, bias, term, limits))


def _native_(
    output: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> None:
    kernels = kernels_for(output.device)
    if kernels is None:
        _reference_(output, bias, term, limits)
        return
    last = output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()
    memory_format = torch.channels_last if last else torch.contiguous_format
    dense = output.contiguous(memory_format=memory_format)
    bias = None if bias is None else bias.contiguous()
    term = None if term is None else term.contiguous(memory_format=memory_format)
    batch, channels, height, width = output.shape
    pixels = height * width
    kernels.module.convolution_epilogue(
        output=buffer(dense),
        bias=buffer(bias),
        term=buffer(term),
        dtype=str(output.dtype).removeprefix("torch."),
        sizes=(batch * pixels, channels, 1) if last else (batch, channels, pixels),
        limits=None if limits is None else tuple(limits),
        target=kernels.target,
    )
    if dense is not output:
        output.copy_(dense)


def _fake_(*_: object) -> None:
    return None


def _check(
    operation: str,
    output: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> None:
    check_type(operation, "output", output, FLOATING)
    if output.ndim != 4:
        reject(operation, "output", "four dimensions (B, C, H, W)", tuple(output.shape))
    if limits is not None:
        check_limits(operation, limits, output.dtype)
    shapes = {"bias": (bias, output.shape[1:2]), "term": (term, output.shape)}
    for argument, (tensor, shape) in shapes.items():
        if tensor is not None:
            check_alike(operation, argument, tensor, shape, output.dtype, output.device)


def _check_memory(
    operation: str,
    output: torch.Tensor,
    bias: torch.Tensor | None,
    term: torch.Tensor | None,
    _limits: Sequence[float] | None,
) -> None:
    check_memory(operation, [("output", output)], [("bias", bias), ("term", term)])


register(
    _library,
    "convolution_epilogue_",
    check=_check,
    check_memory=_check_memory,
    kernel=_native_,
    reference=_reference_,
    fake=_fake_,
)
