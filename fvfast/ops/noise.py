"""Noise injection: ``out = images + std * normal + uniform_width * uniform``.

An operation has four parts, here from the inside out: the schema, the kernels of each device with
the fake kernel, the gradient, and the public functions, which check their arguments.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._native import native
from fvfast.ops.reference import inject_noise_reference

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_WORD = 2**32

_library = torch.library.Library("fvfast", "FRAGMENT")
_ARGUMENTS = "float std, float uniform_width, SymInt seed, SymInt[] streams, SymInt step"
_library.define(f"inject_noise(Tensor images, {_ARGUMENTS}) -> Tensor")
_library.define(f"inject_noise_(Tensor(a!) images, {_ARGUMENTS}) -> ()")


def _reference(
    images: torch.Tensor,
    std: float,
    uniform_width: float,
    seed: int,
    streams: Sequence[int],
    step: int,
) -> torch.Tensor:
    noisy = inject_noise_reference(
        images, std, uniform_width=uniform_width, seed=seed, streams=streams, step=step
    )
    # The memory format of the images, as the kernels and the fake kernel have it.
    return torch.empty_like(images).copy_(noisy)


def _reference_(
    images: torch.Tensor,
    std: float,
    uniform_width: float,
    seed: int,
    streams: Sequence[int],
    step: int,
) -> None:
    images.copy_(
        inject_noise_reference(
            images, std, uniform_width=uniform_width, seed=seed, streams=streams, step=step
        )
    )


def _fill(
    module: Any,
    images: torch.Tensor,
    out: torch.Tensor,
    std: float,
    uniform_width: float,
    seed: int,
    streams: Sequence[int],
    step: int,
) -> None:
    module.inject_noise(
        images=images.data_ptr(),
        out=out.data_ptr(),
        dtype=str(images.dtype).removeprefix("torch."),
        sizes=images.shape,
        image_strides=images.stride(),
        out_strides=out.stride(),
        streams=streams,
        std=std,
        uniform_width=uniform_width,
        seed=seed % 2**64,
        step=step,
    )


def _cpu(
    images: torch.Tensor,
    std: float,
    uniform_width: float,
    seed: int,
    streams: Sequence[int],
    step: int,
) -> torch.Tensor:
    module = native()
    if module is None:
        return _reference(images, std, uniform_width, seed, streams, step)
    out = torch.empty_like(images)
    _fill(module, images, out, std, uniform_width, seed, streams, step)
    return out


def _cpu_(
    images: torch.Tensor,
    std: float,
    uniform_width: float,
    seed: int,
    streams: Sequence[int],
    step: int,
) -> None:
    module = native()
    if module is None:
        _reference_(images, std, uniform_width, seed, streams, step)
    else:
        _fill(module, images, images, std, uniform_width, seed, streams, step)


def _fake(images: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(images)


def _fake_(*_: Any) -> None:
    return None


_library.impl("inject_noise", _cpu, "CPU")
_library.impl("inject_noise_", _cpu_, "CPU")
_library.impl("inject_noise", _reference, "CompositeExplicitAutograd")
_library.impl("inject_noise_", _reference_, "CompositeExplicitAutograd")
torch.library.register_fake("fvfast::inject_noise", _fake, lib=_library)
torch.library.register_fake("fvfast::inject_noise_", _fake_, lib=_library)


class _InjectNoise(torch.autograd.Function):
    """The noise does not depend on the images: the gradient passes unchanged."""

    @staticmethod
    def forward(
        _ctx: Any,
        images: torch.Tensor,
        std: float,
        uniform_width: float,
        seed: int,
        streams: Sequence[int],
        step: int,
    ) -> torch.Tensor:
        return torch.ops.fvfast.inject_noise(images, std, uniform_width, seed, streams, step)

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None, None, None, None


class _InjectNoiseInPlace(torch.autograd.Function):
    """The same in place; autograd learns that the images have changed."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        std: float,
        uniform_width: float,
        seed: int,
        streams: Sequence[int],
        step: int,
    ) -> torch.Tensor:
        ctx.mark_dirty(images)
        torch.ops.fvfast.inject_noise_(images, std, uniform_width, seed, streams, step)
        return images

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None, None, None, None


def _check(
    name: str,
    images: torch.Tensor,
    std: float,
    uniform_width: float | None,
    seed: int,
    streams: Sequence[int],
    step: int,
) -> tuple[float, float, int, list[int], int]:
    """Check the arguments, and bring them into the types of the schema."""
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{name}(): images: expected a tensor, got {type(images).__name__}")
    if images.dtype not in _DTYPES:
        expected = ", ".join(str(dtype) for dtype in _DTYPES)
        raise TypeError(f"{name}(): images: expected one of {expected}, got {images.dtype}")
    if images.ndim == 0:
        raise ValueError(f"{name}(): images: expected at least one dimension, got a scalar")
    if uniform_width is None:
        uniform_width = std
    for argument, value in (("std", std), ("uniform_width", uniform_width)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}(): {argument}: expected a finite number >= 0, got {value}")
    if len(streams) != images.shape[0]:
        raise ValueError(
            f"{name}(): streams: expected {images.shape[0]} integers, one for each image, "
            f"got {len(streams)}"
        )
    for stream in streams:
        if not 0 <= stream < _WORD:
            raise ValueError(f"{name}(): streams: expected integers in [0, 2^32), got {stream}")
    if not 0 <= step < _WORD:
        raise ValueError(f"{name}(): step: expected an integer in [0, 2^32), got {step}")
    # Integers of a schema are signed: the same 64 bits, in [-2^63, 2^63).
    if not -(2**63) <= seed < 2**63:
        seed = (seed + 2**63) % 2**64 - 2**63
    return float(std), float(uniform_width), seed, list(streams), step


def inject_noise(
    images: torch.Tensor,
    std: float,
    *,
    seed: int,
    streams: Sequence[int],
    step: int,
    uniform_width: float | None = None,
) -> torch.Tensor:
    """Add normal and uniform noise to images.

    ``images + std * normal + uniform_width * uniform``, where `normal` is standard normal and
    `uniform` is uniform in [-0.5, 0.5). The noise of an element depends on the seed, the step, the
    stream of its image and its row-major index within the image, and on nothing else: not on the
    device, the memory format, the batch, or the number of threads.

    Parameters
    ----------
    images
        Tensor (N, ...) of float32, float64, bfloat16 or float16, with any strides. The first
        dimension counts the images.
    std
        Standard deviation of the normal noise, in units of `images`: finite, >= 0.
    seed
        Any integer; its lowest 64 bits count.
    streams
        The identity of each image: N integers in [0, 2^32).
    step
        The optimisation step, in [0, 2^32): each draws anew.
    uniform_width
        Width of the interval of the uniform noise: finite, >= 0; `std` if None.

    Returns
    -------
    noisy
        Tensor (N, ...) of the type and memory format of `images`. Its gradient with respect to
        `images` is the identity.

    Raises
    ------
    TypeError
        If `images` is not a tensor of a supported type.
    ValueError
        If another argument is out of range, or there is not one stream for each image.

    Notes
    -----
    Numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    SC 2011), normal ones through the Box-Muller transform, |normal| <= 5.77.
    """
    arguments = _check("inject_noise", images, std, uniform_width, seed, streams, step)
    if torch.is_grad_enabled() and images.requires_grad:
        return _InjectNoise.apply(images, *arguments)
    return torch.ops.fvfast.inject_noise(images, *arguments)


def inject_noise_(
    images: torch.Tensor,
    std: float,
    *,
    seed: int,
    streams: Sequence[int],
    step: int,
    uniform_width: float | None = None,
) -> torch.Tensor:
    """Add normal and uniform noise to images in place.

    As `inject_noise`, which says what the parameters are, but writes to `images` and returns them.

    Raises
    ------
    TypeError, ValueError
        As `inject_noise`, and ValueError if elements of `images` share memory (expanded tensors).
    """
    arguments = _check("inject_noise_", images, std, uniform_width, seed, streams, step)
    if any(
        size > 1 and stride == 0 for size, stride in zip(images.shape, images.stride(), strict=True)
    ):
        raise ValueError(
            "inject_noise_(): images: expected elements with memory of their own, got an expanded "
            f"tensor with strides {images.stride()}"
        )
    # torch.compile tracks changes in place itself, and cannot trace mark_dirty without a gradient.
    if torch.compiler.is_compiling() and not (torch.is_grad_enabled() and images.requires_grad):
        torch.ops.fvfast.inject_noise_(images, *arguments)
        return images
    return _InjectNoiseInPlace.apply(images, *arguments)
