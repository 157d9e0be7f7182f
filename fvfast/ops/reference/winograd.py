"""Winograd convolutions in plain PyTorch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

_TILE = 4  # pixels of a tile, down and across
_PIXELS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T


def winograd_convolution_reference(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    outputs: int,
    padding: Sequence[int],
    term: torch.Tensor | None = None,
    limits: Sequence[float] | None = None,
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
