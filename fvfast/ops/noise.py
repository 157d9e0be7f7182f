"""Noise injection: ``out = images + std * normal + uniform_width * uniform``.

An operation has four parts, here from the inside out: the schema, the kernels of each device with
the fake kernel, the gradient, and the public functions, which check their arguments.
"""

from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._checks import FLOATING, check_type, reject, require_tensor
from fvfast.ops._kernels import Kernels, kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._noise_arguments import (
    NOISE_SCHEMA,
    NoiseArguments,
    check_noise,
    check_noise_values,
    noise_arguments,
)
from fvfast.ops._register import register
from fvfast.ops.reference.noise import inject_noise_reference

_MOST_DIMENSIONS = 16  # of the kernels

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(f"inject_noise(Tensor images, {NOISE_SCHEMA}) -> Tensor")
_library.define(f"inject_noise_(Tensor(a!) images, {NOISE_SCHEMA}) -> ()")


def _reference(images: torch.Tensor, *arguments: Any) -> torch.Tensor:
    noisy = inject_noise_reference(images, **NoiseArguments(*arguments).for_reference())
    # The memory format of the images, as the kernels and the fake kernel have it.
    return torch.empty_like(images).copy_(noisy)


def _reference_(images: torch.Tensor, *arguments: Any) -> None:
    images.copy_(inject_noise_reference(images, **NoiseArguments(*arguments).for_reference()))


def _fill(
    kernels: Kernels, images: torch.Tensor, out: torch.Tensor, arguments: NoiseArguments
) -> None:
    kernels.module.inject_noise(
        images=buffer(images),
        out=buffer(out),
        dtype=str(images.dtype).removeprefix("torch."),
        sizes=images.shape,
        image_strides=images.stride(),
        out_strides=out.stride(),
        **arguments.for_kernels(kernels),
    )


def _native(images: torch.Tensor, *arguments: Any) -> torch.Tensor:
    kernels = kernels_for(images.device)
    if kernels is None:
        return _reference(images, *arguments)
    out = torch.empty_like(images)
    _fill(kernels, images, out, NoiseArguments(*arguments))
    return out


def _native_(images: torch.Tensor, *arguments: Any) -> None:
    kernels = kernels_for(images.device)
    if kernels is None:
        _reference_(images, *arguments)
    else:
        _fill(kernels, images, images, NoiseArguments(*arguments))


def _fake(images: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(images)


def _fake_(*_: Any) -> None:
    return None


def _check(operation: str, images: torch.Tensor, *arguments: Any) -> None:
    check_type(operation, "images", images, FLOATING)
    if not 0 < images.ndim <= _MOST_DIMENSIONS:
        expected = f"1 to {_MOST_DIMENSIONS} dimensions"
        reject(operation, "images", expected, f"a scalar or {images.ndim} dimensions")
    count = images.shape[0]
    elements = images.numel() // count if count else 0
    check_noise(operation, NoiseArguments(*arguments), count, elements, images.device)


def _check_memory(operation: str, images: torch.Tensor, *arguments: Any) -> None:
    noise = NoiseArguments(*arguments)
    check_memory(operation, [], [("images", images), *noise.tensors()])
    check_noise_values(operation, noise)


def _check_memory_(operation: str, images: torch.Tensor, *arguments: Any) -> None:
    noise = NoiseArguments(*arguments)
    check_memory(operation, [("images", images)], noise.tensors())
    check_noise_values(operation, noise)


register(
    _library,
    "inject_noise",
    check=_check,
    check_memory=_check_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)
register(
    _library,
    "inject_noise_",
    check=_check,
    check_memory=_check_memory_,
    kernel=_native_,
    reference=_reference_,
    fake=_fake_,
)


class _InjectNoise(torch.autograd.Function):
    """The noise does not depend on the images: the gradient passes unchanged."""

    @staticmethod
    def forward(_ctx: Any, images: torch.Tensor, *arguments: Any) -> torch.Tensor:
        return torch.ops.fvfast.inject_noise(images, *arguments)

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0], *(None,) * len(NoiseArguments._fields)


class _InjectNoiseInPlace(torch.autograd.Function):
    """The same in place; autograd learns that the images have changed."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, *arguments: Any) -> torch.Tensor:
        ctx.mark_dirty(images)
        torch.ops.fvfast.inject_noise_(images, *arguments)
        return images

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0], *(None,) * len(NoiseArguments._fields)


def inject_noise(
    images: torch.Tensor,
    std: float | torch.Tensor,
    *,
    seed: int,
    identities: Sequence[int] | torch.Tensor,
    step: int | torch.Tensor,
    uniform_width: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Add normal and uniform noise to images.

    ``images + std * normal + uniform_width * uniform``, where `normal` is standard normal and
    `uniform` is one of the 256 numbers -127.5/256, -126.5/256, ..., 127.5/256: its mean is 0, and
    its variance (1 - 2^-16) / 12. They are independent of each other. The noise of an element
    depends on the seed, the step, the identity of its image and its row-major index within the
    image, and on nothing else: not on the device, the memory format, the batch, or the number of
    threads.

    Parameters
    ----------
    images
        Tensor (N, ...) of float32, float64, bfloat16 or float16, with any strides. The first
        dimension counts the images.
    std
        Standard deviation of the normal noise, in units of `images`: finite, >= 0; or a table of
        those of all steps: see the notes.
    seed
        Any integer; its lowest 64 bits count.
    identities
        The identity of each image: N integers in [0, 2^32), or a tensor of them: see the notes.
    step
        The optimization step, in [0, 2^32): each draws anew. An int64 tensor of one element is read
        when the kernel runs, so that a captured CUDA graph draws anew in each replay.
    uniform_width
        Width of the interval of the uniform noise: finite, >= 0, or a table; `std` if None.

    Returns
    -------
    noisy
        Tensor (N, ...) of the type and memory format of `images`. Its gradient with respect to
        `images` is the identity.

    Raises
    ------
    TypeError
        If `images` is not a tensor of a supported type, or another tensor is not of its type.
    ValueError
        If another argument is out of range, there is not one identity for each image, or a tensor
        lies on another device than the images.

    Notes
    -----
    Numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    SC 2011), normal ones through the Box-Muller transform, |normal| <= 5.77. The transform reads
    the upper 24 bits of each random word; its lower 8 bits are the uniform number.

    With a `step` that is a tensor, `std` and `uniform_width` may be float64 tensors (rows,) on the
    device of the images: the noise is that of row min(step, rows - 1), to the bit as if it were
    given as a number. And `identities` may be an int64 tensor (N,) there. All are read when the
    kernel runs. On a GPU what they hold is not checked: a scale that is not > 0 adds nothing, and
    the lowest 32 bits of an identity count.
    """
    require_tensor("inject_noise", "images", images)
    arguments = noise_arguments("inject_noise", std, uniform_width, seed, identities, step)
    if torch.is_grad_enabled() and images.requires_grad:
        return _InjectNoise.apply(images, *arguments)
    return torch.ops.fvfast.inject_noise(images, *arguments)


def inject_noise_(
    images: torch.Tensor,
    std: float | torch.Tensor,
    *,
    seed: int,
    identities: Sequence[int] | torch.Tensor,
    step: int | torch.Tensor,
    uniform_width: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Add normal and uniform noise to images in place.

    As `inject_noise`, which says what the parameters are, but writes to `images` and returns them.

    Raises
    ------
    TypeError, ValueError
        As `inject_noise`, and ValueError if elements of `images` share memory (expanded tensors).
    """
    require_tensor("inject_noise_", "images", images)
    arguments = noise_arguments("inject_noise_", std, uniform_width, seed, identities, step)
    # torch.compile tracks changes in place itself, and cannot trace mark_dirty without a gradient.
    if torch.compiler.is_compiling() and not (torch.is_grad_enabled() and images.requires_grad):
        torch.ops.fvfast.inject_noise_(images, *arguments)
        return images
    return _InjectNoiseInPlace.apply(images, *arguments)
