"""Horama's losses."""

import torch

from fvfast import losses


def cosine_similarity(tensor_a: torch.Tensor, tensor_b: torch.Tensor) -> torch.Tensor:
    """Cosine of the angle between two tensors.

    Parameters
    ----------
    tensor_a, tensor_b
        (N, ...), of equal dimensions after the first; or two vectors (D,).

    Returns
    -------
    cosine_similarity
        (N,), or a scalar for vectors.

    Raises
    ------
    ValueError
        The shapes do not fit.
    """
    if tensor_a.ndim == tensor_b.ndim == 1:
        return losses.cosine_similarity(tensor_a[None], tensor_b[None])[0]
    return losses.cosine_similarity(tensor_a, tensor_b)


def dot_cossim(
    tensor_a: torch.Tensor, tensor_b: torch.Tensor, cossim_pow: float = 2.0
) -> torch.Tensor:
    """Cosine similarity to a power, times the dot product of all values.

    Parameters
    ----------
    tensor_a, tensor_b
        (N, ...), of equal dimensions after the first; or two vectors (D,).
    cossim_pow
        Power of the cosine, which is at least 0.1.

    Returns
    -------
    dot_cossim
        (N,), or a scalar for vectors.

    Raises
    ------
    ValueError
        The shapes do not fit.
    """
    if tensor_a.ndim == tensor_b.ndim == 1:
        return losses.dot_cossim(tensor_a[None], tensor_b[None], cossim_pow)[0]
    return losses.dot_cossim(tensor_a, tensor_b, cossim_pow)
