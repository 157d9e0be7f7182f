"""Cuts boxes out of images, resizes them as TensorFlow's ``crop_and_resize`` does, adds noise."""

from collections.abc import Sequence

import torch

from fvfast.ops._checks import FLOATING, check_alike, reject, require_tensor
from fvfast.ops._memory import check_own_memory
from fvfast.ops._noise_arguments import noise_arguments
from fvfast.ops.crop_operation import check_crops, crop


def random_crops(
    images: torch.Tensor,
    boxes: torch.Tensor,
    size: int | Sequence[int],
    *,
    std: float | torch.Tensor = 0.0,
    uniform_width: float | torch.Tensor | None = None,
    seed: int = 0,
    identities: Sequence[int] | torch.Tensor | None = None,
    step: int | torch.Tensor = 0,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    transparency: torch.Tensor | None = None,
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
    std, uniform_width, seed, identities, step
        See `fvfast.ops.inject_noise`, also for tables of `std` and `uniform_width`. Without these
        there is no noise. `identities` are 0, 1, ... if None.
    dtype
        Type of the crops: that of `images` if None.
    memory_format
        ``torch.contiguous_format`` or ``torch.channels_last``: of the crops.
    transparency
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
    require_tensor("random_crops", "images", images)
    require_tensor("random_crops", "boxes", boxes)
    dtype = images.dtype if dtype is None else dtype
    if memory_format not in (torch.contiguous_format, torch.channels_last):
        expected = "torch.contiguous_format or torch.channels_last"
        reject("random_crops", "memory_format", expected, memory_format)
    words = range(*images.shape[:1]) if identities is None else identities
    noise = noise_arguments("random_crops", std, uniform_width, seed, words, step)
    arguments = (height, width, dtype, memory_format == torch.channels_last, *noise)
    # The operation checks all this again, under names of its own.
    check_crops("random_crops", images, boxes, *arguments, dtypes=FLOATING, size="size")
    real = torch.promote_types(images.dtype, torch.float32)
    if transparency is not None:
        _check_transparency(transparency, images, real)
    return crop(images.to(real), boxes.detach(), transparency, *arguments)


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
        raise ValueError("crop_and_resize: boxes must be finite, got NaN or infinity.")
    if height < 1 or width < 1:
        raise ValueError(f"crop_and_resize: size must be at least 1, got ({height}, {width}).")


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return height, width


def _check_transparency(
    transparency: torch.Tensor, images: torch.Tensor, dtype: torch.dtype
) -> None:
    name = "random_crops"
    require_tensor(name, "transparency", transparency)
    check_alike(name, "transparency", transparency, images.shape, dtype, images.device)
    if transparency.requires_grad:
        reject(name, "transparency", "a tensor without a gradient", "one that requires it")
    check_own_memory(name, "transparency", transparency)
