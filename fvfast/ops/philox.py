"""Counter-based random numbers: Philox4x32-10, written in PyTorch.

A random number is a function of *what* it is for and *where* it is used, never of how many were
drawn before it. The same seed therefore gives the same numbers on every device, for any number of
threads, in any order, and whether an image is made alone or in a batch.

The counter of one block of four numbers is ``(element // 4, step, identity, purpose)`` and the key
is the 64-bit seed.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(SC 2011).
"""

import enum
import math
import zlib
from collections.abc import Sequence

import torch

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


class Purpose(enum.IntEnum):
    """What a random number is for: the last word of its counter."""

    PHASE = 0
    BOX = 1
    NOISE = 2  # no purpose has number 3
    STATE = 4
    LEVEL = 5
    COLOR_SHIFT = 6


def philox4x32(
    counter: Sequence[torch.Tensor], key: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Philox4x32 with 10 rounds.

    Parameters
    ----------
    counter
        Four int64 tensors that broadcast together, each word in [0, 2^32).
    key
        Two words in [0, 2^32).

    Returns
    -------
    words
        Four int64 tensors of random words in [0, 2^32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap around, and their 64 bits are those of the unsigned product.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, low0 = (product0 >> 32) & _MASK, product0 & _MASK
        high1, low1 = (product1 >> 32) & _MASK, product1 & _MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def random_words(
    count: int,
    *,
    seed: int,
    purpose: Purpose,
    identities: Sequence[int] | torch.Tensor,
    step: int | torch.Tensor = 0,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Random 32-bit words, ``count`` for each image.

    Parameters
    ----------
    count
        Words per image, at most 2^34.
    seed
        Any integer; its lowest 64 bits are the key.
    purpose, step
        What the words are for, and the optimization step in [0, 2^32): a number, or an int64
        scalar on the device.
    identities
        The identity of each image, in [0, 2^32): see `image_identity`. Integers, or an int64 tensor
        on the device, which a captured CUDA graph reads anew in each replay.
    device
        Where the words are computed. They are the same everywhere.

    Returns
    -------
    words
        int64 tensor (len(identities), count), values in [0, 2^32).
    """
    blocks = torch.arange((count + 3) // 4, dtype=torch.int64, device=device)
    if not isinstance(identities, torch.Tensor):
        identities = torch.tensor(list(identities), dtype=torch.int64, device=device)
    counter = (
        blocks[None, :],
        torch.as_tensor(step, device=device),
        identities[:, None],
        torch.tensor(int(purpose), device=device),
    )
    words = philox4x32(counter, (seed & _MASK, (seed >> 32) & _MASK))
    return torch.stack(words, dim=-1).flatten(1)[:, :count]  # (N, blocks, 4) -> (N, count)


def signed(seed: int) -> int:
    """Return the lowest 64 bits of a seed as a signed integer, which is what schemas take."""
    return (seed + 2**63) % 2**64 - 2**63


def split_step(function: str, step: int | torch.Tensor) -> tuple[int, torch.Tensor | None]:
    """Split a step into what is known now and what kernels read when they run.

    Parameters
    ----------
    function
        Name of the caller, for messages.
    step
        A number in [0, 2^32), or an int64 scalar on a device: captured in a CUDA graph, each replay
        reads it anew.

    Returns
    -------
    step, counter
        Their sum is the step; the counter is a tensor or None.
    """
    if not isinstance(step, torch.Tensor):
        return step, None
    if step.dtype != torch.int64 or step.numel() != 1:
        raise ValueError(
            f"{function}(): step: expected an integer, or a torch.int64 tensor of one element, got "
            f"{step.dtype} {tuple(step.shape)}"
        )
    return 0, step


def known_step(step: int, counter: torch.Tensor | None) -> int:
    """Return the step as a number, reading the counter if there is one."""
    return step if counter is None else step + int(counter.item())


def whole_step(step: int, counter: torch.Tensor | None) -> int | torch.Tensor:
    """Return the step without reading the counter."""
    return step if counter is None else step + counter.reshape(())


def to_uniform(words: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers in [0, 1) from the upper 24 bits of each word: exact in float32 and float64."""
    return (words >> 8).to(dtype) * 2.0**-24


def to_normal(words: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Turn an even number of words in the last dimension into standard normal numbers.

    Box-Muller: words 2i and 2i + 1 give numbers 2i (cosine) and 2i + 1 (sine). The radius uses
    (0, 1], so its logarithm is finite; the largest number is sqrt(-2 ln 2^-24) = 5.77.
    """
    pairs = words.unflatten(-1, (-1, 2))  # (..., pairs, 2)
    radius = ((pairs[..., 0] >> 8).to(dtype) + 1).mul(2.0**-24).log().mul(-2).sqrt()
    angle = to_uniform(pairs[..., 1], dtype) * (2 * math.pi)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)


def to_centered(words: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers of mean 0 from the lower 8 bits of each word, which `to_normal` does not read.

    They are the 256 multiples of 1/256 from -127.5/256 to 127.5/256, all equally likely: their
    variance is (1 - 2^-16) / 12. They do not depend on the normal numbers of the same words.
    """
    return ((words & 0xFF).to(dtype) - 127.5) * 2.0**-8


def draw_normal(
    shape: Sequence[int],
    *,
    seed: int,
    purpose: Purpose,
    identities: Sequence[int],
    step: int = 0,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Draw standard normal numbers of a shape for each image: float32 (len(identities), *shape).

    Parameters are those of `random_words`.
    """
    count = math.prod(shape)
    words = random_words(
        count + count % 2,  # normal numbers come in pairs
        seed=seed,
        purpose=purpose,
        identities=identities,
        step=step,
        device=device,
    )
    return to_normal(words)[:, :count].unflatten(1, tuple(shape))


def image_identity(name: str) -> int:
    """Identity of an image in the counter: a checksum (CRC-32) of its combination's name.

    It depends on nothing but the name, so an image draws the same numbers alone and in any batch,
    and images of different combinations draw different ones.
    """
    # Names from files may hold lone surrogates.
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))
