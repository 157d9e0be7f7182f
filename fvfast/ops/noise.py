"""Noise injection: ``out = images + std * normal + uniform_width * uniform``.

An operation has four parts, here from the inside out: the schema, the kernels of each device with
the fake kernel, the gradient, and the public functions, which check their arguments.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fvfast.ops._checks import (
    FLOATING,
    check_numbered,
    check_scale,
    check_step,
    check_sum,
    check_type,
    check_words,
    reject,
    require_tensor,
)
from fvfast.ops._kernels import Kernels, kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.philox import known_step, signed, split_step, whole_step
from fvfast.ops.reference.noise import inject_noise_reference

_MOST_DIMENSIONS = 16  # of the kernels

_library = torch.library.Library("fvfast", "FRAGMENT")
NOISE_SCHEMA = (
    "float std, float uniform_width, SymInt seed, SymInt[] identities, SymInt step, Tensor? counter"
)
_library.define(f"inject_noise(Tensor images, {NOISE_SCHEMA}) -> Tensor")
_library.define(f"inject_noise_(Tensor(a!) images, {NOISE_SCHEMA}) -> ()")


class NoiseArguments(NamedTuple):
    """What the noise of a tensor depends on besides its shape, as in the schema."""

    std: float
    uniform_width: float
    seed: int
    identities: Sequence[int]
    step: int
    counter: torch.Tensor | None  # added to the step

    def for_reference(self) -> dict[str, Any]:
        """Return the arguments as the references take them."""
        return {
            "std": self.std,
            "uniform_width": self.uniform_width,
            "seed": self.seed,
            "identities": self.identities,
            "step": whole_step(self.step, self.counter),
        }

    def for_kernels(self, kernels: Kernels) -> dict[str, Any]:
        """Return the arguments as the native module takes them."""
        on_device = kernels.target is not None
        counter = self.counter if on_device else None
        return {
            "std": self.std,
            "uniform_width": self.uniform_width,
            "seed": self.seed % 2**64,
            "identities": self.identities,
            "step": self.step if on_device else known_step(self.step, self.counter),
            "counter": buffer(counter),
            "target": kernels.target,
        }


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


def check_noise(
    operation: str, arguments: NoiseArguments, images: int, elements: int, device: torch.device
) -> None:
    """Raise ValueError unless noise can be drawn for some images of `elements` elements each."""
    check_scale(operation, "std", arguments.std)
    check_scale(operation, "uniform_width", arguments.uniform_width)
    check_words(operation, "identities", arguments.identities, images)
    check_step(operation, arguments.step, arguments.counter, device)
    if arguments.std > 0 or arguments.uniform_width > 0:
        check_numbered(operation, "images", elements)


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
    check_memory(operation, [], [("images", images), ("counter", noise.counter)])
    check_sum(operation, noise.step, noise.counter)


def _check_memory_(operation: str, images: torch.Tensor, *arguments: Any) -> None:
    noise = NoiseArguments(*arguments)
    check_memory(operation, [("images", images)], [("counter", noise.counter)])
    check_sum(operation, noise.step, noise.counter)


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


def _arguments(
    function: str,
    images: torch.Tensor,
    std: float,
    uniform_width: float | None,
    seed: int,
    identities: Sequence[int],
    step: int | torch.Tensor,
) -> NoiseArguments:
    """Bring the arguments into the types of the schema; the operation checks them."""
    require_tensor(function, "images", images)
    number, counter = split_step(function, step)
    width = float(std if uniform_width is None else uniform_width)
    return NoiseArguments(float(std), width, signed(seed), list(identities), number, counter)


def inject_noise(
    images: torch.Tensor,
    std: float,
    *,
    seed: int,
    identities: Sequence[int],
    step: int | torch.Tensor,
    uniform_width: float | None = None,
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
        Standard deviation of the normal noise, in units of `images`: finite, >= 0.
    seed
        Any integer; its lowest 64 bits count.
    identities
        The identity of each image: N integers in [0, 2^32).
    step
        The optimization step, in [0, 2^32): each draws anew. An int64 tensor of one element is read
        when the kernel runs, so that a captured CUDA graph draws anew in each replay.
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
        If another argument is out of range, or there is not one identity for each image.

    Notes
    -----
    Numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    SC 2011), normal ones through the Box-Muller transform, |normal| <= 5.77. The transform reads
    the upper 24 bits of each random word; its lower 8 bits are the uniform number.
    """
    arguments = _arguments("inject_noise", images, std, uniform_width, seed, identities, step)
    if torch.is_grad_enabled() and images.requires_grad:
        return _InjectNoise.apply(images, *arguments)
    return torch.ops.fvfast.inject_noise(images, *arguments)


def inject_noise_(
    images: torch.Tensor,
    std: float,
    *,
    seed: int,
    identities: Sequence[int],
    step: int | torch.Tensor,
    uniform_width: float | None = None,
) -> torch.Tensor:
    """Add normal and uniform noise to images in place.

    As `inject_noise`, which says what the parameters are, but writes to `images` and returns them.

    Raises
    ------
    TypeError, ValueError
        As `inject_noise`, and ValueError if elements of `images` share memory (expanded tensors).
    """
    arguments = _arguments("inject_noise_", images, std, uniform_width, seed, identities, step)
    # torch.compile tracks changes in place itself, and cannot trace mark_dirty without a gradient.
    if torch.compiler.is_compiling() and not (torch.is_grad_enabled() and images.requires_grad):
        torch.ops.fvfast.inject_noise_(images, *arguments)
        return images
    return _InjectNoiseInPlace.apply(images, *arguments)
