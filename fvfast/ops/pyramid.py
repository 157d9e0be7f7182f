"""Pyramid to image and back: the sum of levels of all sizes, each enlarged to that of the image.

One pass writes the image and another reads its gradient, without an enlarged level in memory.
The parts are in the order of `fvfast.ops.noise`.
"""

from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._checks import (
    REAL,
    check_alike,
    check_elements,
    check_finite,
    check_range,
    check_type,
    reject,
    require_tensor,
)
from fvfast.ops._kernels import Kernels, kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.phase_cuda import colors_of
from fvfast.ops.phase_to_image import rounds_coarsely
from fvfast.ops.reference.pyramid import pyramid_sizes, pyramid_to_image_reference

LONGEST_SIDE = 2**15
"""Of an image: the kernels compute positions in whole numbers of 32 bits."""

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "pyramid_to_image(Tensor pyramid, SymInt height, SymInt width, SymInt levels, float low, "
    "float high, float gain) -> Tensor"
)
_library.define(
    "pyramid_to_image_backward(Tensor gradient, Tensor image, SymInt levels, float low, "
    "float high, float gain) -> Tensor"
)


def pyramid_elements(height: int, width: int) -> int:
    """Count the elements of the pyramid of one channel of an image."""
    return sum(rows * columns for rows, columns in pyramid_sizes(height, width))


def _common(
    kernels: Kernels, image: torch.Tensor, levels: int, low: float, high: float, gain: float
) -> dict[str, Any]:
    """Arguments that both kernels take."""
    return {
        "dtype": str(image.dtype).removeprefix("torch."),
        "sizes": list(image.shape),
        "levels": levels,
        "low": low,
        "high": high,
        "gain": gain,
        "colors": colors_of(image.shape[1]),
        "target": kernels.target,
    }


def _reference(
    pyramid: torch.Tensor,
    height: int,
    width: int,
    levels: int,
    low: float,
    high: float,
    gain: float,
) -> torch.Tensor:
    image = pyramid_to_image_reference(pyramid, (height, width), levels, low, high, gain)
    return image.contiguous()


def _native(
    pyramid: torch.Tensor,
    height: int,
    width: int,
    levels: int,
    low: float,
    high: float,
    gain: float,
) -> torch.Tensor:
    kernels = kernels_for(pyramid.device)
    if kernels is None:
        return _reference(pyramid, height, width, levels, low, high, gain)
    pyramid = pyramid.contiguous()
    image = _fake(pyramid, height, width)
    kernels.module.pyramid_image(
        pyramid=buffer(pyramid),
        image=buffer(image),
        **_common(kernels, image, levels, low, high, gain),
    )
    return image


def _fake(pyramid: torch.Tensor, height: int, width: int, *_: float) -> torch.Tensor:
    return pyramid.new_empty(*pyramid.shape[:2], height, width)


def _backward_reference(
    gradient: torch.Tensor, image: torch.Tensor, levels: int, low: float, high: float, gain: float
) -> torch.Tensor:
    # The sums are linear in the pyramid, so their gradient is the same for any pyramid.
    slope = gradient * ((image - low) * (high - image)) / (high - low)
    with torch.enable_grad():
        leaf = torch.zeros_like(_fake_backward(gradient, image)).requires_grad_()
        size = (image.shape[2], image.shape[3])
        # At 0 the slope of the sigmoid is a quarter.
        linear = pyramid_to_image_reference(leaf, size, levels, 0.0, 4.0, gain)
        (result,) = torch.autograd.grad(linear, leaf, slope)
    return result.contiguous()


def _native_backward(
    gradient: torch.Tensor, image: torch.Tensor, levels: int, low: float, high: float, gain: float
) -> torch.Tensor:
    kernels = kernels_for(gradient.device)
    if kernels is None:
        return _backward_reference(gradient, image, levels, low, high, gain)
    gradient, image = gradient.contiguous(), image.contiguous()
    common = _common(kernels, image, levels, low, high, gain)
    asked = {name: common[name] for name in ("dtype", "sizes", "levels", "target")}
    scratch_bytes = kernels.module.pyramid_gradient_scratch(**asked)
    scratch = torch.empty(scratch_bytes, dtype=torch.uint8, device=image.device)
    out = _fake_backward(gradient, image)
    kernels.module.pyramid_gradient(
        gradient=buffer(gradient),
        image=buffer(image),
        out=buffer(out),
        scratch=buffer(scratch),
        **common,
    )
    return out


def _fake_backward(gradient: torch.Tensor, image: torch.Tensor, *_: float) -> torch.Tensor:
    elements = pyramid_elements(image.shape[2], image.shape[3])
    return gradient.new_empty(*image.shape[:2], elements)


def _check_levels(operation: str, height: int, width: int, levels: int) -> None:
    count = len(pyramid_sizes(height, width))
    if not 1 <= levels <= count:
        expected = f"an integer from 1 to {count}, the levels of {height} x {width} pixels"
        reject(operation, "levels", expected, levels)


def _check_look(operation: str, low: float, high: float, gain: float) -> None:
    check_range(operation, "low, high", low, high)
    check_finite(operation, "gain", gain)


def _check(
    operation: str,
    pyramid: torch.Tensor,
    height: int,
    width: int,
    levels: int,
    low: float,
    high: float,
    gain: float,
) -> None:
    check_type(operation, "pyramid", pyramid, REAL)
    for argument, side in (("height", height), ("width", width)):
        if not 1 <= side <= LONGEST_SIDE:
            reject(operation, argument, f"an integer from 1 to {LONGEST_SIDE}", side)
    _check_levels(operation, height, width, levels)
    elements = pyramid_elements(height, width)
    if pyramid.ndim != 3 or pyramid.shape[1] < 1 or pyramid.shape[2] != elements:
        expected = f"(N, C, {elements}) for an image of {height} x {width}, C at least 1"
        reject(operation, "pyramid", expected, tuple(pyramid.shape))
    check_elements(operation, "pyramid", pyramid.shape)
    _check_look(operation, low, high, gain)


def _check_backward(
    operation: str,
    gradient: torch.Tensor,
    image: torch.Tensor,
    levels: int,
    low: float,
    high: float,
    gain: float,
) -> None:
    check_type(operation, "image", image, REAL)
    fits = image.ndim == 4 and image.shape[1] >= 1
    if not fits or not all(1 <= side <= LONGEST_SIDE for side in image.shape[2:]):
        expected = f"(N, C, H, W), C at least 1, H and W from 1 to {LONGEST_SIDE}"
        reject(operation, "image", expected, tuple(image.shape))
    check_alike(operation, "gradient", gradient, image.shape, image.dtype, image.device)
    height, width = image.shape[2:]
    _check_levels(operation, height, width, levels)
    pyramid = (*image.shape[:2], pyramid_elements(height, width))
    check_elements(operation, "image", pyramid)
    _check_look(operation, low, high, gain)


def _check_memory(operation: str, pyramid: torch.Tensor, *_: float) -> None:
    check_memory(operation, [], [("pyramid", pyramid)])


def _check_backward_memory(
    operation: str, gradient: torch.Tensor, image: torch.Tensor, *_: float
) -> None:
    check_memory(operation, [], [("gradient", gradient), ("image", image)])


register(
    _library,
    "pyramid_to_image",
    check=_check,
    check_memory=_check_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)
register(
    _library,
    "pyramid_to_image_backward",
    check=_check_backward,
    check_memory=_check_backward_memory,
    kernel=_native_backward,
    reference=_backward_reference,
    fake=_fake_backward,
)


class _PyramidToImage(torch.autograd.Function):
    """The gradient with respect to the pyramid: by kernels; higher ones by the reference."""

    @staticmethod
    def forward(
        ctx: Any, pyramid: torch.Tensor, size: tuple[int, int], levels: int, *look: float
    ) -> torch.Tensor:
        image: torch.Tensor = torch.ops.fvfast.pyramid_to_image(pyramid, *size, levels, *look)
        ctx.save_for_backward(pyramid, image)
        ctx.settings = size, levels, look
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        pyramid, image = ctx.saved_tensors
        size, levels, look = ctx.settings
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            again = pyramid_to_image_reference(pyramid, size, levels, *look)
            (result,) = torch.autograd.grad(again, pyramid, gradients[0], create_graph=True)
        else:
            result = torch.ops.fvfast.pyramid_to_image_backward(gradients[0], image, levels, *look)
        return result, *(None,) * (2 + len(look))


def pyramid_to_image(
    pyramid: torch.Tensor,
    size: Sequence[int],
    values_range: Sequence[float],
    *,
    levels: int | None = None,
    gain: float = 1.0,
) -> torch.Tensor:
    """Image of a pyramid: the sum of its levels, each enlarged bilinearly to the whole image.

    The sum is multiplied by the gain, its colors are recorrelated where it has 3 channels, and it
    is squeezed into ``values_range`` by a sigmoid.

    Parameters
    ----------
    pyramid
        (N, C, P), float32 or float64, any strides: the elements of all levels, row by row, the
        coarsest level first. The last level is as large as the image, and each before it half as
        high and wide, rounded up, down to a single element: P = 1 + 4 + ... + 512 * 512 for
        512 x 512.
    size
        (H, W) of the image, each from 1 to 32768.
    values_range
        (low, high), finite.
    levels
        How many levels take part, the coarsest ones; the gradient of the others is 0. Default: all.
    gain
        Factor of the sum, finite.

    Returns
    -------
    image
        (N, C, H, W). Its gradient with respect to the pyramid may be taken any number of times;
        only the first one has a kernel.

    Raises
    ------
    TypeError
        If the pyramid is not a tensor of a supported type.
    ValueError
        If a shape, a size, the number of levels, the range or the gain does not fit.
    """
    name = "pyramid_to_image"
    require_tensor(name, "pyramid", pyramid)
    for argument, given, expected in (
        ("size", size, "two integers (H, W)"),
        ("values_range", values_range, "two finite numbers (low, high)"),
    ):
        if len(given) != 2:
            reject(name, argument, expected, tuple(given))
    height, width = int(size[0]), int(size[1])
    low, high, gain = float(values_range[0]), float(values_range[1]), float(gain)
    # Halved so many times, rounded up, the longer side is 1.
    count = 1 + (max(height, width, 1) - 1).bit_length() if levels is None else levels
    arguments = (height, width, count, low, high, gain)
    differentiable = torch.is_grad_enabled() and pyramid.requires_grad
    has_kernels = pyramid.device.type in ("cpu", "cuda")
    if not has_kernels or (differentiable and rounds_coarsely(low, high)):
        _check(name, pyramid, *arguments)
        return pyramid_to_image_reference(pyramid, (height, width), *arguments[2:])
    if differentiable:
        image: torch.Tensor = _PyramidToImage.apply(pyramid, (height, width), *arguments[2:])
        return image
    result: torch.Tensor = torch.ops.fvfast.pyramid_to_image(pyramid, *arguments)
    return result
