"""Convolutions of 3 x 3 taps by minimal filtering: 16 multiplications where there were 36.

F(2 x 2, 3 x 3): a tile of 2 x 2 outputs is ``A^T ((G g G^T) * (B^T d B)) A``, for taps g and the
4 x 4 pixels d that the tile is made from. On the processor only; on a GPU cuDNN does the same.

References
----------
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1.
"""

import math

import torch
import torch.nn.functional as F

from fvfast.ops._checks import FLOATING, check_alike, check_type, reject, require_tensor
from fvfast.ops._kernels import native
from fvfast.ops._memory import buffer, check_memory

PANEL = 32
"""Output channels whose weights stand together."""

_TILE = 4  # pixels of a tile, down and across

_PIXELS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
_TAPS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G
_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T


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
    _check(images, weight, bias, outputs, padding, term, limits)
    module = native()
    if module is None or images.device.type != "cpu" or images.dtype != torch.float32:
        return winograd_convolution_reference(
            images, weight, bias, outputs=outputs, padding=padding, term=term, limits=limits
        )
    batch, inputs, height, width = images.shape
    out = torch.empty(
        (batch, outputs, height + 2 * padding[0] - 2, width + 2 * padding[1] - 2),
        dtype=images.dtype,
        device=images.device,
        memory_format=torch.channels_last,
    )
    # A kernel does not know of tensors that are negated when they are read.
    images = images.resolve_neg().contiguous(memory_format=torch.channels_last)
    weight = weight.resolve_neg().contiguous()
    bias = None if bias is None else bias.resolve_neg().contiguous()
    if term is not None:
        term = term.resolve_neg().contiguous(memory_format=torch.channels_last)
    module.winograd_convolution(
        images=buffer(images),
        weights=buffer(weight),
        bias=buffer(bias),
        term=buffer(term),
        out=buffer(out),
        sizes=(batch, height, width, inputs),
        outputs=outputs,
        padding=padding,
        limits=limits,
    )
    return out


def _is_padding(padding: tuple[int, int]) -> bool:
    return (
        isinstance(padding, tuple)
        and len(padding) == 2
        and all(isinstance(pad, int) and 0 <= pad <= 2 for pad in padding)
    )


def _are_limits(limits: tuple[float, float], dtype: torch.dtype) -> bool:
    largest = torch.finfo(dtype).max
    return (
        isinstance(limits, tuple)
        and len(limits) == 2
        and all(isinstance(limit, float | int) for limit in limits)
        and all(math.isinf(limit) or abs(limit) <= largest for limit in limits)
        and limits[0] <= limits[1]
    )


def _check(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: int,
    padding: tuple[int, int],
    term: torch.Tensor | None,
    limits: tuple[float, float] | None,
) -> None:
    name = "winograd_convolution"
    tensors = {"images": images, "weight": weight}
    if bias is not None:
        tensors["bias"] = bias
    if term is not None:
        tensors["term"] = term
    for argument, tensor in tensors.items():
        require_tensor(name, argument, tensor)
    check_type(name, "images", images, FLOATING)
    if images.ndim != 4 or images.shape[1] < 1:
        reject(name, "images", "(B, in, H, W) with at least one input", tuple(images.shape))
    if not _is_padding(padding):
        reject(name, "padding", "two integers from 0 to 2", padding)
    rows, columns = (
        length + 2 * pad - 2 for length, pad in zip(images.shape[2:], padding, strict=True)
    )
    if rows < 1 or columns < 1:
        expected = "at least 3 x 3 pixels with their padding"
        reject(name, "images", expected, f"{tuple(images.shape)} and {padding}")
    if not isinstance(outputs, int) or outputs < 0:
        reject(name, "outputs", "an integer >= 0", outputs)
    if limits is not None and not _are_limits(limits, images.dtype):
        reject(name, "limits", f"a lower and an upper one of {images.dtype}", limits)
    shapes = {
        "images": tuple(images.shape),
        "weight": (-(-outputs // PANEL), _TILE**2, images.shape[1], PANEL),
        "bias": (outputs,),
        "term": (images.shape[0], outputs, rows, columns),
    }
    for argument, tensor in tensors.items():
        check_alike(name, argument, tensor, shapes[argument], images.dtype, images.device)
    if images.device.type == "cpu":
        check_memory(name, [], list(tensors.items()))


def winograd_convolution_reference(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    outputs: int,
    padding: tuple[int, int],
    term: torch.Tensor | None = None,
    limits: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Do what `winograd_convolution` does, in PyTorch, in the type of the images."""
    pixels = torch.tensor(_PIXELS, dtype=images.dtype, device=images.device)  # (4, 4)
    back = torch.tensor(_OUTPUTS, dtype=images.dtype, device=images.device)  # (2, 4)
    points = weight.permute(1, 2, 0, 3).flatten(2)[..., :outputs]  # (16, in, out)

    (pad_y, pad_x), (height, width) = padding, images.shape[2:]
    rows, columns = height + 2 * pad_y - 2, width + 2 * pad_x - 2
    # Where the last tile reaches beyond the output, it reads one pixel more.
    padded = F.pad(images, (pad_x, pad_x + columns % 2, pad_y, pad_y + rows % 2))
    tiles = padded.unfold(2, _TILE, 2).unfold(3, _TILE, 2)  # (B, in, th, tw, 4, 4)
    transformed = torch.einsum("ia,bcyxad,jd->ijbyxc", pixels, tiles, pixels)
    products = torch.einsum("ptc,pck->ptk", transformed.flatten(2, 4).flatten(0, 1), points)
    products = products.reshape(_TILE, _TILE, *transformed.shape[2:5], outputs)
    output = torch.einsum("si,ijbyxk,uj->bkysxu", back, products, back)  # (B, out, th, 2, tw, 2)
    output = output.flatten(4, 5).flatten(2, 3)[:, :, :rows, :columns]
    if bias is not None:
        output = output + bias[:, None, None]
    if term is not None:
        output = output + term
    return output if limits is None else output.clamp(*limits)
