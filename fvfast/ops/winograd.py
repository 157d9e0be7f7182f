"""Winograd convolutions of 3 x 3 taps: 16 multiplications where there were 36.

F(2 x 2, 3 x 3): a tile of 2 x 2 outputs is ``A^T ((G g G^T) * (B^T d B)) A``, for taps g and the
4 x 4 pixels d that the tile is made from. On the CPU only; on a GPU cuDNN does the same.

References
----------
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from fvfast.ops._checks import FLOATING, check_alike, check_limits, check_type, reject
from fvfast.ops._kernels import native
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.reference.winograd import winograd_convolution_reference

PANEL = 32
"""Output channels whose weights are stored together."""

_TILE = 4  # pixels of a tile, down and across

_TAPS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "winograd_convolution(Tensor images, Tensor weight, Tensor? bias, SymInt outputs, "
    "SymInt[] padding, Tensor? term, float[]? limits) -> Tensor"
)


def has_winograd_kernel(images: torch.Tensor) -> bool:
    """Whether there is a kernel for images, on this processor: without AVX2 it gains nothing."""
    if images.device.type != "cpu" or images.dtype != torch.float32:
        return False
    module = native()
    return module is not None and module.simd_level() != "baseline"


def winograd_weight(weight: torch.Tensor) -> torch.Tensor:
    """Transform the weights of a convolution.

    Parameters
    ----------
    weight
        (out, in, 3, 3).

    Returns
    -------
    transformed
        (ceil(out / 32), 16, in, 32), of the same type, computed in float64: 0 for the channels
        that complete the last 32.
    """
    outputs, inputs, *_ = weight.shape
    taps = torch.tensor(_TAPS, dtype=torch.float64, device=weight.device)
    both = torch.kron(taps, taps)  # (16, 9)
    panels = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -outputs % PANEL)).unflatten(0, (-1, PANEL))
    flat = panels.permute(0, 3, 4, 2, 1).reshape(len(panels), 9, -1)  # (panels, 9, in * 32)
    return (both @ flat.double()).to(weight.dtype).unflatten(2, (inputs, PANEL))


def winograd_convolution(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    outputs: int,
    padding: tuple[int, int],
    term: torch.Tensor | None = None,
    limits: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Convolve with 3 x 3 taps and stride 1, and clamp the sum with a bias and a term.

    An image's values do not depend on the other images, nor on the number of threads. Infinite
    pixels give values that are not numbers, all over their tile.

    Parameters
    ----------
    images
        (B, in, H, W), float32.
    weight
        From `winograd_weight`.
    bias
        (out,), or None.
    outputs
        out.
    padding
        Zeros on either side, down and across: 0 to 2.
    term
        (B, out, H', W'), added before clamping; None: 0.
    limits
        Smallest and largest value; None: none.

    Returns
    -------
    output
        (B, out, H + 2 py - 2, W + 2 px - 2), channels last.

    Raises
    ------
    TypeError
        Something is not a tensor, or not of the images' type.
    ValueError
        Sizes, padding or limits do not fit, or tensors are not on the images' device.
    """
    # The dispatcher would refuse these with messages of its own.
    name = "winograd_convolution"
    if not isinstance(outputs, int):
        reject(name, "outputs", "an integer >= 0", outputs)
    if not isinstance(padding, tuple) or not all(isinstance(pad, int) for pad in padding):
        reject(name, "padding", "two integers from 0 to 2", padding)
    return torch.ops.fvfast.winograd_convolution(
        images, weight, bias, outputs, padding, term, limits
    )


def _output_shape(
    images: torch.Tensor, outputs: int, padding: Sequence[int]
) -> tuple[int, int, int, int]:
    rows, columns = (
        length + 2 * pad - 2 for length, pad in zip(images.shape[2:], padding, strict=True)
    )
    return images.shape[0], outputs, rows, columns


def _empty(images: torch.Tensor, outputs: int, padding: Sequence[int]) -> torch.Tensor:
    shape = _output_shape(images, outputs, padding)
    return torch.empty(
        shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last
    )


def _reference(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: int,
    padding: Sequence[int],
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> torch.Tensor:
    output = winograd_convolution_reference(
        images, weight, bias, outputs=outputs, padding=padding, term=term, limits=limits
    )
    return output.contiguous(memory_format=torch.channels_last)


def _native(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: int,
    padding: Sequence[int],
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> torch.Tensor:
    module = native()
    if module is None or images.device.type != "cpu" or images.dtype != torch.float32:
        return _reference(images, weight, bias, outputs, padding, term, limits)
    batch, inputs, height, width = images.shape
    out = _empty(images, outputs, padding)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    term = None if term is None else term.contiguous(memory_format=torch.channels_last)
    module.winograd_convolution(
        images=buffer(images),
        weights=buffer(weight),
        bias=buffer(bias),
        term=buffer(term),
        out=buffer(out),
        sizes=(batch, height, width, inputs),
        outputs=outputs,
        padding=tuple(padding),
        limits=None if limits is None else tuple(limits),
    )
    return out


def _fake(
    images: torch.Tensor,
    _weight: torch.Tensor,
    _bias: torch.Tensor | None,
    outputs: int,
    padding: Sequence[int],
    *_others: Any,
) -> torch.Tensor:
    return _empty(images, outputs, padding)


def _check(
    operation: str,
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: int,
    padding: Sequence[int],
    term: torch.Tensor | None,
    limits: Sequence[float] | None,
) -> None:
    check_type(operation, "images", images, FLOATING)
    if images.ndim != 4 or images.shape[1] < 1:
        reject(operation, "images", "(B, in, H, W) with at least one input", tuple(images.shape))
    if len(padding) != 2 or not all(0 <= pad <= 2 for pad in padding):
        reject(operation, "padding", "two integers from 0 to 2", tuple(padding))
    if outputs < 0:
        reject(operation, "outputs", "an integer >= 0", outputs)
    output = _output_shape(images, outputs, padding)
    if output[2] < 1 or output[3] < 1:
        expected = "at least 3 x 3 pixels with their padding"
        reject(operation, "images", expected, f"{tuple(images.shape)} and {tuple(padding)}")
    if limits is not None:
        check_limits(operation, limits, images.dtype)
    shapes = {
        "weight": (weight, (-(-outputs // PANEL), _TILE**2, images.shape[1], PANEL)),
        "bias": (bias, (outputs,)),
        "term": (term, output),
    }
    for argument, (tensor, shape) in shapes.items():
        if tensor is not None:
            check_alike(operation, argument, tensor, shape, images.dtype, images.device)


def _check_memory(
    operation: str,
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    _outputs: int,
    _padding: Sequence[int],
    term: torch.Tensor | None,
    _limits: Sequence[float] | None,
) -> None:
    read = [("images", images), ("weight", weight), ("bias", bias), ("term", term)]
    check_memory(operation, [], read)


register(
    _library,
    "winograd_convolution",
    check=_check,
    check_memory=_check_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)
