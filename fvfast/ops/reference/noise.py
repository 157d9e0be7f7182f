"""Noise in plain PyTorch."""

from collections.abc import Sequence

import torch

from fvfast.ops.philox import Purpose, random_words, to_centered, to_normal


def inject_noise_reference(
    images: torch.Tensor,
    std: float | torch.Tensor,
    *,
    seed: int,
    identities: Sequence[int] | torch.Tensor,
    step: int | torch.Tensor,
    uniform_width: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Add normal and uniform noise: see `fvfast.ops.inject_noise`.

    Parameters
    ----------
    images
        Floating-point tensor (N, ...).
    std
        Standard deviation of the normal noise, >= 0: a number, or a float64 scalar on the device.
    seed, identities, step
        What the noise depends on: any integer, N integers, and an integer, the latter in [0, 2^32).
        The latter may be int64 tensors, (N,) and a scalar.
    uniform_width
        Width of the interval of the uniform noise, >= 0, as `std` is given; `std` if None.

    Returns
    -------
    noisy
        Tensor (N, ...) of the type of `images`.
    """
    if images.numel() == 0:
        return images.clone()
    real = torch.promote_types(images.dtype, torch.float32)
    count = images[0].numel()  # M elements of one image, in row-major order

    words = random_words(
        count + count % 2,  # normal numbers come in pairs
        seed=seed,
        purpose=Purpose.NOISE,
        identities=identities,
        step=step,
        device=images.device,
    )
    normal = to_normal(words, real)[:, :count]  # (N, M)
    uniform = to_centered(words, real)[:, :count]  # (N, M)
    width = std if uniform_width is None else uniform_width
    noise = (std * normal + width * uniform).reshape(images.shape)  # (N, M) -> (N, ...)
    return (images.to(real) + noise).to(images.dtype)
