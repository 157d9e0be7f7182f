"""Cropping as an operation of PyTorch, with its gradient.

Each of the two has, here from the inside out: the schema, the kernels of each device with the fake
kernel, the checks, and the autograd function.
"""

from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._checks import (
    FLOATING,
    REAL,
    check_alike,
    check_elements,
    check_layout,
    check_per_image,
    check_type,
    reject,
)
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._noise_arguments import (
    NOISE_SCHEMA,
    NoiseArguments,
    check_noise,
    check_noise_values,
)
from fvfast.ops._register import register
from fvfast.ops.gradient_flags import add_gradient_flags
from fvfast.ops.reference.crop import crop_gradient_reference, random_crops_reference

_LONGEST = 2**24  # pixels of an axis: a position needs bits left for a fraction

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "crop_resize(Tensor images, Tensor boxes, SymInt height, SymInt width, ScalarType dtype, "
    f"bool channels_last, {NOISE_SCHEMA}) -> Tensor"
)
_library.define(
    "crop_gradient(Tensor gradient, Tensor boxes, SymInt image_height, SymInt image_width, "
    "ScalarType dtype, Tensor(a!)? transparency, Tensor? running, Tensor(b!)? flags) -> Tensor"
)


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _grouped_strides(crops: torch.Tensor, per_image: int) -> tuple[int, ...]:
    """Strides of crops (N*K, C, h, w) as (N, K, C, h, w)."""
    return (per_image * crops.stride(0), *crops.stride())


def _readable(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes in a type that the kernels read."""
    if boxes.dtype not in (torch.float32, torch.float64):
        boxes = boxes.to(torch.float64)
    return boxes.contiguous()


def _reference(
    images: torch.Tensor,
    boxes: torch.Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    channels_last: bool,
    *noise: Any,
) -> torch.Tensor:
    out = _fake(images, boxes, height, width, dtype, channels_last)
    if out.numel() == 0:
        return out
    arguments = NoiseArguments(*noise).for_reference()
    return out.copy_(
        random_crops_reference(images, boxes, (height, width), dtype=dtype, **arguments)
    )


def _native(
    images: torch.Tensor,
    boxes: torch.Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    channels_last: bool,
    *noise: Any,
) -> torch.Tensor:
    kernels = kernels_for(images.device)
    if kernels is None:
        return _reference(images, boxes, height, width, dtype, channels_last, *noise)
    boxes = _readable(boxes)
    out = _fake(images, boxes, height, width, dtype, channels_last)
    kernels.module.crop_resize(
        images=buffer(images),
        boxes=buffer(boxes),
        out=buffer(out),
        image_dtype=_name(images.dtype),
        box_dtype=_name(boxes.dtype),
        out_dtype=_name(dtype),
        sizes=(*boxes.shape[:2], *images.shape[1:], height, width),
        image_strides=images.stride(),
        out_strides=_grouped_strides(out, boxes.shape[1]),
        **NoiseArguments(*noise).for_kernels(kernels),
    )
    return out


def _fake(
    images: torch.Tensor,
    boxes: torch.Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    channels_last: bool,
    *_: Any,
) -> torch.Tensor:
    return torch.empty(
        (boxes.shape[0] * boxes.shape[1], images.shape[1], height, width),
        dtype=dtype,
        device=images.device,
        memory_format=_memory_format(channels_last),
    )


def _gradient_reference(
    gradient: torch.Tensor,
    boxes: torch.Tensor,
    image_height: int,
    image_width: int,
    dtype: torch.dtype,
    transparency: torch.Tensor | None,
    running: torch.Tensor | None,
    flags: torch.Tensor | None,
) -> torch.Tensor:
    grouped = gradient.unflatten(0, boxes.shape[:2])
    image_gradient = crop_gradient_reference(grouped, boxes, (image_height, image_width), dtype)
    _note(image_gradient, transparency, running, flags)
    return image_gradient.contiguous()


def _note(
    image_gradient: torch.Tensor,
    transparency: torch.Tensor | None,
    running: torch.Tensor | None,
    flags: torch.Tensor | None,
) -> None:
    """Add a gradient to the transparency of images that run, and its flags to those of all."""
    if transparency is not None:
        counts = image_gradient.isfinite()
        if running is not None:
            counts = counts & running.view(-1, 1, 1, 1)
        transparency += torch.where(counts, image_gradient.abs(), 0)
    if flags is not None:
        add_gradient_flags(flags, image_gradient)


def _gradient_native(
    gradient: torch.Tensor,
    boxes: torch.Tensor,
    image_height: int,
    image_width: int,
    dtype: torch.dtype,
    transparency: torch.Tensor | None,
    running: torch.Tensor | None,
    flags: torch.Tensor | None,
) -> torch.Tensor:
    kernels = kernels_for(gradient.device)
    if kernels is None or gradient.numel() == 0:
        return _gradient_reference(
            gradient, boxes, image_height, image_width, dtype, transparency, running, flags
        )
    noted = [tensor for tensor in (running, flags) if tensor is not None]
    if noted and (kernels.target is None or not all(one.is_contiguous() for one in noted)):
        image_gradient = _gradient_native(
            gradient, boxes, image_height, image_width, dtype, None, None, None
        )
        _note(image_gradient, transparency, running, flags)
        return image_gradient
    boxes = _readable(boxes)
    image_gradient = _gradient_fake(gradient, boxes, image_height, image_width, dtype)
    sizes = (*boxes.shape[:2], gradient.shape[1], image_height, image_width, *gradient.shape[2:])
    scratch_bytes = kernels.module.crop_gradient_scratch(
        image_dtype=_name(dtype), sizes=sizes, target=kernels.target
    )
    scratch = gradient.new_empty(scratch_bytes, dtype=torch.uint8)
    kernels.module.crop_gradient(
        gradient=buffer(gradient),
        boxes=buffer(boxes),
        image_gradient=buffer(image_gradient),
        transparency=buffer(transparency),
        scratch=buffer(scratch),
        gradient_dtype=_name(gradient.dtype),
        image_dtype=_name(dtype),
        box_dtype=_name(boxes.dtype),
        sizes=sizes,
        gradient_strides=_grouped_strides(gradient, boxes.shape[1]),
        transparency_strides=(image_gradient if transparency is None else transparency).stride(),
        running=buffer(running),
        flags=buffer(flags),
        target=kernels.target,
    )
    return image_gradient


def _gradient_fake(
    gradient: torch.Tensor,
    boxes: torch.Tensor,
    image_height: int,
    image_width: int,
    dtype: torch.dtype,
    *_: Any,
) -> torch.Tensor:
    return gradient.new_empty(
        (boxes.shape[0], gradient.shape[1], image_height, image_width), dtype=dtype
    )


def check_boxes(operation: str, boxes: torch.Tensor, device: torch.device) -> None:
    """Raise TypeError or ValueError unless boxes are (N, K, 4) on a device."""
    if not boxes.is_floating_point():
        reject(operation, "boxes", "a floating-point type", boxes.dtype, TypeError)
    check_layout(operation, "boxes", boxes)
    if boxes.ndim != 3 or boxes.shape[2] != 4:
        reject(operation, "boxes", "(N, K, 4)", tuple(boxes.shape))
    if boxes.device != device:
        reject(operation, "boxes", f"the device of the pixels, {device}", boxes.device)


def check_lengths(operation: str, argument: str, sizes: Sequence[int]) -> None:
    """Raise ValueError unless a height and a width, the last sizes, can be sampled."""
    if not all(1 <= length <= _LONGEST for length in sizes[-2:]):
        expected = "1 to 2^24 pixels down and across"
        reject(operation, argument, expected, tuple(sizes))


def check_crops(
    operation: str,
    images: torch.Tensor,
    boxes: torch.Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    _channels_last: bool,
    *noise: Any,
    dtypes: Sequence[torch.dtype] = REAL,
    size: str = "height, width",
) -> None:
    """Raise TypeError or ValueError unless crops can be cut out.

    Parameters
    ----------
    operation
        For messages.
    images, boxes, height, width, dtype, *noise
        Of the operation.
    dtypes
        That images may have.
    size
        What the caller calls height and width.
    """
    check_type(operation, "images", images, dtypes)
    if images.ndim != 4:
        reject(operation, "images", "(N, C, H, W)", tuple(images.shape))
    check_boxes(operation, boxes, images.device)
    if boxes.shape[0] != images.shape[0]:
        reject(operation, "boxes", f"({images.shape[0]}, K, 4)", tuple(boxes.shape))
    if dtype not in FLOATING:
        reject(operation, "dtype", " or ".join(map(str, FLOATING)), dtype, TypeError)
    check_lengths(operation, size, (height, width))
    check_lengths(operation, "images", images.shape)
    crops = (boxes.shape[1], images.shape[1], height, width)  # of an image
    check_elements(operation, size, (images.shape[0], *crops))
    elements = crops[0] * crops[1] * height * width
    check_noise(operation, NoiseArguments(*noise), images.shape[0], elements, images.device)


def _check_crops_memory(
    operation: str, images: torch.Tensor, boxes: torch.Tensor, *arguments: Any
) -> None:
    noise = NoiseArguments(*arguments[-len(NoiseArguments._fields) :])
    check_memory(operation, [], [("images", images), ("boxes", boxes), *noise.tensors()])
    check_noise_values(operation, noise)


def _check_gradient(
    operation: str,
    gradient: torch.Tensor,
    boxes: torch.Tensor,
    image_height: int,
    image_width: int,
    dtype: torch.dtype,
    transparency: torch.Tensor | None,
    running: torch.Tensor | None,
    flags: torch.Tensor | None,
) -> None:
    check_type(operation, "gradient", gradient, FLOATING)
    check_boxes(operation, boxes, gradient.device)
    images, crops = boxes.shape[:2]
    if gradient.ndim != 4 or gradient.shape[0] != images * crops:
        expected = f"({images * crops}, C, height, width) for {images} x {crops} boxes"
        reject(operation, "gradient", expected, tuple(gradient.shape))
    if dtype not in REAL:
        reject(operation, "dtype", " or ".join(map(str, REAL)), dtype, TypeError)
    check_lengths(operation, "gradient", gradient.shape)
    check_lengths(operation, "image_height, image_width", (image_height, image_width))
    sizes = (images, gradient.shape[1], image_height, image_width)
    check_elements(operation, "image_height, image_width", sizes)
    if transparency is not None:
        check_alike(operation, "transparency", transparency, sizes, dtype, gradient.device)
    if running is not None:
        check_per_image(operation, "running", running, images, torch.bool, gradient.device)
    if flags is not None:
        check_per_image(operation, "flags", flags, images, torch.int32, gradient.device)


def _check_gradient_memory(
    operation: str, gradient: torch.Tensor, boxes: torch.Tensor, *arguments: Any
) -> None:
    *_, transparency, running, flags = arguments
    check_memory(
        operation,
        [("transparency", transparency), ("flags", flags)],
        [("gradient", gradient), ("boxes", boxes), ("running", running)],
    )


register(
    _library,
    "crop_resize",
    check=check_crops,
    check_memory=_check_crops_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)
register(
    _library,
    "crop_gradient",
    check=_check_gradient,
    check_memory=_check_gradient_memory,
    kernel=_gradient_native,
    reference=_gradient_reference,
    fake=_gradient_fake,
)


class _Crops(torch.autograd.Function):
    """Resampling is linear and the noise constant: the gradient is the transpose."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        boxes: torch.Tensor,
        transparency: torch.Tensor | None,
        height: int,
        width: int,
        dtype: torch.dtype,
        *arguments: Any,
    ) -> torch.Tensor:
        ctx.save_for_backward(boxes)
        # Not saved: autograd would refuse it in the backward pass, because it changes in place.
        ctx.transparency = transparency
        ctx.image_size = images.shape[2:]
        ctx.dtype = images.dtype
        return torch.ops.fvfast.crop_resize(images, boxes, height, width, dtype, *arguments)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (boxes,) = ctx.saved_tensors
        gradient = _CropGradient.apply(
            gradients[0], boxes, ctx.transparency, *ctx.image_size, ctx.dtype
        )
        return gradient, *(None,) * (6 + len(NoiseArguments._fields))


class _CropGradient(torch.autograd.Function):
    """The transpose of the transpose: resampling without noise."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: torch.Tensor,
        boxes: torch.Tensor,
        transparency: torch.Tensor | None,
        image_height: int,
        image_width: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        ctx.save_for_backward(boxes)
        ctx.size = gradient.shape[2:]
        ctx.dtype = gradient.dtype
        return torch.ops.fvfast.crop_gradient(
            gradient, boxes, image_height, image_width, dtype, transparency, None, None
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (boxes,) = ctx.saved_tensors
        no_noise = NoiseArguments(0.0, 0.0, 0, [0] * boxes.shape[0], 0, None)
        crops = _Crops.apply(gradients[0], boxes, None, *ctx.size, ctx.dtype, False, *no_noise)
        return crops, *(None,) * 5


def crop(images: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """Crop with a gradient, where one is asked for.

    The arguments are those of the operation, with `transparency` (or None) after the boxes.
    """
    if torch.is_grad_enabled() and images.requires_grad:
        return _Crops.apply(images, *arguments)
    boxes, _, *others = arguments
    return torch.ops.fvfast.crop_resize(images, boxes, *others)
