"""Losses that compare activations with a target, as Xplique 2.0 and Lucid define them."""

import torch

# On the squared norm, as TensorFlow's l2_normalize has it: a zero vector has cosine 0, not NaN.
_SQUARED_NORM_EPSILON = 1e-12
# Below this the cosine has no gradient, and the dot product alone leads.
_SMALLEST_COSINE = 0.1


def _flatten_pair(
    tensor_a: torch.Tensor, tensor_b: torch.Tensor, function: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as (N, D), in float32 at least: squares of half precision overflow and vanish."""
    shapes = tuple(tensor_a.shape), tuple(tensor_b.shape)
    batches = {shape[0] for shape in shapes if shape} - {1}
    if min(tensor_a.ndim, tensor_b.ndim) < 2 or shapes[0][1:] != shapes[1][1:] or len(batches) > 1:
        raise ValueError(
            f"{function}: the tensors have shapes {shapes[0]} and {shapes[1]}; expected (N, ...) "
            "with equal dimensions after the first, and equal N or one N of 1."
        )
    dtype = torch.promote_types(torch.promote_types(tensor_a.dtype, tensor_b.dtype), torch.float32)
    return tensor_a.flatten(1).to(dtype), tensor_b.flatten(1).to(dtype)


def _normalize(vectors: torch.Tensor) -> torch.Tensor:
    squared_norm = vectors.square().sum(-1, keepdim=True)
    return vectors * squared_norm.clamp(min=_SQUARED_NORM_EPSILON).rsqrt()


def cosine_similarity(tensor_a: torch.Tensor, tensor_b: torch.Tensor) -> torch.Tensor:
    """Cosine of the angle between two tensors, for each element of the batch.

    Parameters
    ----------
    tensor_a, tensor_b
        (N, ...), equal dimensions after the first; one of them may have N = 1.

    Returns
    -------
    cosine_similarity
        (N,), values in [-1, 1], 0 where a tensor is 0; float32 at least.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    flat_a, flat_b = _flatten_pair(tensor_a, tensor_b, "cosine_similarity")
    return (_normalize(flat_a) * _normalize(flat_b)).sum(1)


def dot_cossim(
    tensor_a: torch.Tensor, tensor_b: torch.Tensor, cossim_pow: float = 2.0
) -> torch.Tensor:
    """Cosine similarity to a power, times the dot product.

    The cosine asks for the direction, the dot product for its strength (Lucid's caricature loss).
    As in Xplique 2.0, the cosine is that of each element, at least 0.1, and the dot product is
    summed *over the whole batch*.

    Parameters
    ----------
    tensor_a, tensor_b
        (N, ...), equal dimensions after the first; one of them may have N = 1.
    cossim_pow
        Power of the cosine: larger values make the direction matter more.

    Returns
    -------
    dot_cossim
        (N,), max(cosine, 0.1) ** cossim_pow * sum(tensor_a * tensor_b); float32 at least.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    flat_a, flat_b = _flatten_pair(tensor_a, tensor_b, "dot_cossim")
    return batched_dot_cossim(flat_a[None], flat_b[None], cossim_pow)[0]


def batched_dot_cossim(
    tensor_a: torch.Tensor, tensor_b: torch.Tensor, cossim_pow: float
) -> torch.Tensor:
    """`dot_cossim` of each of several batches.

    Parameters
    ----------
    tensor_a, tensor_b
        (B, N, ...), of shapes that broadcast.
    cossim_pow
        See `dot_cossim`.

    Returns
    -------
    dot_cossim
        (B, N).
    """
    flat_a, flat_b = tensor_a.flatten(2), tensor_b.flatten(2)
    cosine = (_normalize(flat_a) * _normalize(flat_b)).sum(2)
    dot = (flat_a * flat_b).sum((1, 2))
    return cosine.clamp(min=_SMALLEST_COSINE) ** cossim_pow * dot[:, None]
