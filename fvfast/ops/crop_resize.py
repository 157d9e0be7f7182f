"""Cuts boxes out of images, resizes them as TensorFlow's ``crop_and_resize`` does, adds noise."""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from fvfast.ops.crop_operation import crop
from fvfast.ops.philox import split_step

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_WORD = 2**32


def random_crops(
    images: torch.Tensor,
    boxes: torch.Tensor,
    size: int | Sequence[int],
    *,
    std: float = 0.0,
    uniform_width: float | None = None,
    seed: int = 0,
    streams: Sequence[int] | None = None,
    step: int | torch.Tensor = 0,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    alpha: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cut boxes out of images, resize them and add noise, in one pass.

    What `crop_and_resize_grouped` and `fvfast.ops.inject_noise` do one after the other: the noise
    of an element depends on its row-major index among the (K, C, height, width) crops of its image,
    whatever the memory format.

    Parameters
    ----------
    images
        (N, C, H, W) of a floating-point type, with any strides. Arithmetic is float32, or float64
        for float64.
    boxes
        (N, K, 4) as (y1, x1, y2, x2) in fractions of the image: floating point, finite.
    size
        Side length of the crops, or (height, width), in pixels.
    std, uniform_width, seed, streams, step
        See `fvfast.ops.inject_noise`. Without `std` and `uniform_width` there is no noise.
        `streams` are 0, 1, ... if None.
    dtype
        Type of the crops: that of `images` if None.
    memory_format
        ``torch.contiguous_format`` or ``torch.channels_last``: of the crops.
    alpha
        (N, C, H, W) of the type of the arithmetic, with any strides: each backward pass adds the
        absolute gradient of `images` to it, where that is finite.

    Returns
    -------
    crops
        (N*K, C, height, width), differentiable with respect to `images`. The gradient is the same
        to the bit for any number of threads.

    Raises
    ------
    TypeError
        If a tensor is not of a supported type.
    ValueError
        If a shape does not fit, or another argument is out of range.
    """
    height, width = _pair(size)
    _check_images("random_crops", images)
    _check_boxes("random_crops", boxes, images)
    dtype = images.dtype if dtype is None else dtype
    if dtype not in _DTYPES:
        _reject("random_crops", "dtype", " or ".join(map(str, _DTYPES)), dtype, TypeError)
    if memory_format not in (torch.contiguous_format, torch.channels_last):
        expected = "torch.contiguous_format or torch.channels_last"
        _reject("random_crops", "memory_format", expected, memory_format)
    if height < 1 or width < 1:
        _reject("random_crops", "size", "at least 1", (height, width))
    if min(images.shape[2:]) < 1:
        _reject("random_crops", "images", "at least one pixel", tuple(images.shape))
    uniform_width = std if uniform_width is None else uniform_width
    for argument, value in (("std", std), ("uniform_width", uniform_width)):
        if not (math.isfinite(value) and value >= 0):
            _reject("random_crops", argument, "a finite number >= 0", value)
    words = list(range(images.shape[0])) if streams is None else list(streams)
    if len(words) != images.shape[0]:
        expected = f"{images.shape[0]} integers, one for each image"
        _reject("random_crops", "streams", expected, len(words))
    for stream in words:
        if not 0 <= stream < _WORD:
            _reject("random_crops", "streams", "integers in [0, 2^32)", stream)
    number, counter = split_step("random_crops", step)
    # Integers of a schema are signed: the same 64 bits, in [-2^63, 2^63).
    if not -(2**63) <= seed < 2**63:
        seed = (seed + 2**63) % 2**64 - 2**63

    real = torch.promote_types(images.dtype, torch.float32)
    if alpha is not None:
        _check_alpha(alpha, images, real)
    return crop(
        images.to(real), boxes.detach(), alpha, height, width, dtype,
        memory_format == torch.channels_last,
        float(std), float(uniform_width), seed, words, number, counter,
    )  # fmt: skip


def crop_and_resize_grouped(
    images: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Cut the same number of boxes out of each image.

    Parameters
    ----------
    images
        (N, C, H, W).
    boxes
        (N, K, 4) as (y1, x1, y2, x2) in fractions of the image.
    size
        (height, width) of the crops.

    Returns
    -------
    crops
        (N, K, C, height, width).
    """
    return random_crops(images, boxes, size).unflatten(0, boxes.shape[:2])


def crop_and_resize(
    images: torch.Tensor,
    boxes: torch.Tensor,
    size: int | Sequence[int],
    box_indices: torch.Tensor | Sequence[int] | None = None,
) -> torch.Tensor:
    """Cut boxes out of images and resize them bilinearly to one size.

    Sample i of a box's S rows lies at ``y1 (H - 1) + i (y2 - y1) (H - 1) / (S - 1)``: the corners
    of a box are sampled exactly, and there is no antialiasing. Samples outside the image are 0.
    Boxes may lie partly or wholly outside, and may be reversed (y1 > y2), which flips the crop.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    boxes
        (K, 4) as (y1, x1, y2, x2) in fractions of the image's height and width.
    size
        Side length of the crops, or (height, width), in pixels.
    box_indices
        (K,) the image that each box belongs to; may be left out for a single image.

    Returns
    -------
    crops
        (K, C, height, width), differentiable with respect to the images.

    Raises
    ------
    ValueError
        Wrong shapes, boxes that are not finite, sizes below 1, or an index without an image.

    References
    ----------
    ``tf.image.crop_and_resize``.
    """
    height, width = _pair(size)
    boxes = torch.as_tensor(boxes, device=images.device)
    _check(images, boxes, height, width)
    if box_indices is None:
        if images.shape[0] != 1:
            raise ValueError(
                f"crop_and_resize: box_indices is needed to tell which of the {images.shape[0]} "
                "images each box belongs to."
            )
        return crop_and_resize_grouped(images, boxes.unsqueeze(0), (height, width)).squeeze(0)

    indices = torch.as_tensor(box_indices, device=images.device)
    if indices.shape != boxes.shape[:1]:
        raise ValueError(
            f"crop_and_resize: expected one box index per box, ({len(boxes)},), got "
            f"{tuple(indices.shape)}."
        )
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < images.shape[0]:
        raise ValueError(
            f"crop_and_resize: box_indices must lie in 0 to {images.shape[0] - 1}, got "
            f"{indices.min()} to {indices.max()}."
        )
    crops = images.new_empty(len(boxes), images.shape[1], height, width)
    for index in indices.unique().tolist():
        chosen = (indices == index).nonzero().squeeze(1)
        group = images[index : index + 1]
        cut = crop_and_resize_grouped(group, boxes[chosen].unsqueeze(0), (height, width))
        crops = crops.index_copy(0, chosen, cut.squeeze(0))
    return crops


def _check(images: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "crop_and_resize: images must be floating point (N, C, H, W), got "
            f"{images.dtype} {tuple(images.shape)}."
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(
            "crop_and_resize: boxes must be floating point (K, 4) as y1, x1, y2, x2, got "
            f"{boxes.dtype} {tuple(boxes.shape)}."
        )
    if not bool(torch.isfinite(boxes).all()):
        raise ValueError("crop_and_resize: boxes must be finite.")
    if height < 1 or width < 1:
        raise ValueError(f"crop_and_resize: size must be at least 1, got ({height}, {width}).")


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return height, width


def _reject(
    function: str, argument: str, expected: str, got: Any, error: type[Exception] = ValueError
) -> NoReturn:
    raise error(f"{function}(): {argument}: expected {expected}, got {got}")


def _check_images(name: str, images: torch.Tensor) -> None:
    if not isinstance(images, torch.Tensor):
        _reject(name, "images", "a tensor", type(images).__name__, TypeError)
    if images.dtype not in _DTYPES:
        _reject(name, "images", " or ".join(map(str, _DTYPES)), images.dtype, TypeError)
    if images.ndim != 4:
        _reject(name, "images", "(N, C, H, W)", tuple(images.shape))


def _check_boxes(name: str, boxes: torch.Tensor, images: torch.Tensor) -> None:
    if not isinstance(boxes, torch.Tensor):
        _reject(name, "boxes", "a tensor", type(boxes).__name__, TypeError)
    if not boxes.is_floating_point():
        _reject(name, "boxes", "a floating-point type", boxes.dtype, TypeError)
    if boxes.ndim != 3 or boxes.shape[2] != 4 or boxes.shape[0] != images.shape[0]:
        _reject(name, "boxes", f"({images.shape[0]}, K, 4)", tuple(boxes.shape))
    if boxes.device != images.device:
        _reject(name, "boxes", f"the device of images, {images.device}", boxes.device)


def _check_alpha(alpha: torch.Tensor, images: torch.Tensor, dtype: torch.dtype) -> None:
    name = "random_crops"
    if not isinstance(alpha, torch.Tensor):
        _reject(name, "alpha", "a tensor", type(alpha).__name__, TypeError)
    if alpha.dtype != dtype:
        _reject(name, "alpha", str(dtype), alpha.dtype, TypeError)
    if alpha.shape != images.shape:
        _reject(name, "alpha", str(tuple(images.shape)), tuple(alpha.shape))
    if alpha.device != images.device:
        _reject(name, "alpha", f"the device of images, {images.device}", alpha.device)
    if alpha.requires_grad:
        _reject(name, "alpha", "a tensor without a gradient", "one that requires it")
    if any(
        size > 1 and stride == 0 for size, stride in zip(alpha.shape, alpha.stride(), strict=True)
    ):
        _reject(
            name,
            "alpha",
            "elements with memory of their own",
            f"an expanded tensor with strides {alpha.stride()}",
        )
