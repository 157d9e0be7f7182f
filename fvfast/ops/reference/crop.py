"""Cropping in plain PyTorch.

Resampling is linear and separable: a crop is ``rows @ image @ columns.T`` with two matrices of
weights, and its transpose is the gradient.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from fvfast.ops.reference.noise import inject_noise_reference


def _linear_weights(
    position: torch.Tensor,
    inside: torch.Tensor,
    length: int,
    dtype: torch.dtype,
    columns: range | None = None,
) -> torch.Tensor:
    """Weights (..., size, length) of samples at positions (..., size) among `length` pixels.

    Only those of the pixels of `columns` where it is given.
    """
    columns = range(length) if columns is None else columns
    position = torch.where(inside, position, 0.0)
    lower = position.floor()
    upper = (lower + 1).clamp(max=length - 1)
    share = (position - lower).to(dtype).unsqueeze(-1)  # of the upper pixel
    pixels = torch.arange(columns.start, columns.stop, dtype=position.dtype, device=position.device)
    weights = (pixels == lower.unsqueeze(-1)) * (1 - share)
    weights = weights + (pixels == upper.unsqueeze(-1)) * share
    return weights * inside.unsqueeze(-1)


def sample_weights(
    start: torch.Tensor, stop: torch.Tensor, size: int, length: int, dtype: torch.dtype
) -> torch.Tensor:
    """Bilinear weights with which one axis of a box is sampled, as TensorFlow does.

    Parameters
    ----------
    start, stop
        Ends of the boxes as fractions of the axis, (...,); 0 is the center of the first pixel and 1
        that of the last. Positions have the precision of these; float64 makes those of float32
        boxes exact at the ends.
    size
        Number of samples, evenly spread from start to stop; a single sample sits in the middle.
    length
        Number of pixels of the axis.
    dtype
        Type of the weights.

    Returns
    -------
    weights
        (..., size, length): two non-zero entries per row at most, none where the sample lies
        outside the image.
    """
    if size > 1:
        samples = torch.arange(size, dtype=start.dtype, device=start.device)
        # By a tensor: on a GPU, torch divides by a number by multiplying with its inverse.
        fraction = samples / torch.full_like(samples, size - 1)
    else:
        fraction = torch.full((1,), 0.5, dtype=start.dtype, device=start.device)
    span = (stop - start).unsqueeze(-1) * (length - 1)
    position = start.unsqueeze(-1) * (length - 1) + fraction * span  # (..., size)
    inside = (position >= 0) & (position <= length - 1)
    return _linear_weights(position, inside, length, dtype)


def roi_weights(
    start: torch.Tensor,
    stop: torch.Tensor,
    size: int,
    length: int,
    dtype: torch.dtype,
    columns: range | None = None,
) -> torch.Tensor:
    """Weights with which ``torchvision.ops.roi_align`` averages one axis of a box.

    A box of `length` pixels times its fraction is cut into `size` bins, and each bin averages as
    many samples as it is pixels wide. Samples up to one pixel outside count as the border's, those
    beyond are 0. This is ``aligned=False, sampling_ratio=-1``; pixel centers lie at integers.

    Parameters and return value are those of `sample_weights`; of a box that reads only the pixels
    of the range `columns`, the weights may be asked for these alone.
    """
    columns = range(length) if columns is None else columns
    begin = start * length
    span = ((stop - start) * length).clamp(min=1)
    samples = (span / size).ceil()  # per bin
    bins = torch.arange(size, dtype=start.dtype, device=start.device)
    weights = torch.zeros(*start.shape, size, len(columns), dtype=dtype, device=start.device)
    for index in range(int(samples.max()) if samples.numel() else 0):
        offset = ((index + 0.5) / samples).unsqueeze(-1)
        position = begin.unsqueeze(-1) + (bins + offset) * (span / size).unsqueeze(-1)
        counts = (position >= -1) & (position <= length) & (index < samples).unsqueeze(-1)
        clamped = position.clamp(0, length - 1)
        weights = weights + _linear_weights(clamped, counts, length, dtype, columns)
    return weights / samples.to(dtype)[..., None, None]


def _matrices(
    boxes: torch.Tensor,
    size: Sequence[int],
    image_size: Sequence[int],
    dtype: torch.dtype,
    weights: Callable[..., torch.Tensor] = sample_weights,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the rows (N, K, h, H) and of the columns (N, K, w, W)."""
    if boxes.device.type != "mps":  # which has no float64
        boxes = boxes.double()
    y1, x1, y2, x2 = boxes.unbind(-1)  # (N, K) each
    return (
        weights(y1, y2, size[0], image_size[0], dtype),
        weights(x1, x2, size[1], image_size[1], dtype),
    )


def _resample(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    stripes = torch.einsum("nkyh,nchw->nkcyw", rows, images)  # (N, K, C, h, W)
    return torch.einsum("nkcyw,nkxw->nkcyx", stripes, columns)


def crop_and_resize_reference(
    images: torch.Tensor,
    boxes: torch.Tensor,
    size: tuple[int, int],
    method: str = "bilinear",
) -> torch.Tensor:
    """Cut the same number of boxes out of each image: see `crop_and_resize_grouped`.

    Parameters
    ----------
    images
        (N, C, H, W).
    boxes
        (N, K, 4) as (y1, x1, y2, x2) in fractions of the image.
    size
        (height, width) of the crops.
    method
        "bilinear", or "horama": what Horama does, for comparisons. That is ``roi_align`` to twice
        the size, then an antialiased bicubic reduction, which may leave the range of the image.

    Returns
    -------
    crops
        (N, K, C, height, width), of the type of `images`.
    """
    real = torch.promote_types(images.dtype, torch.float32)
    if method == "bilinear":
        matrices = _matrices(boxes, size, images.shape[2:], real)
        return _resample(images.to(real), *matrices).to(images.dtype)
    if method != "horama":
        raise ValueError(f"method must be 'bilinear' or 'horama', got {method!r}.")
    double = (2 * size[0], 2 * size[1])
    matrices = _matrices(boxes, double, images.shape[2:], real, roi_weights)
    large = _resample(images.to(real), *matrices)
    small = F.interpolate(
        large.flatten(0, 1), size, mode="bicubic", align_corners=True, antialias=True
    )
    return small.unflatten(0, boxes.shape[:2]).to(images.dtype)


def crop_gradient_reference(
    gradient: torch.Tensor,
    boxes: torch.Tensor,
    image_size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Gradient of `crop_and_resize_reference` with respect to the images.

    Parameters
    ----------
    gradient
        (N, K, C, height, width).
    boxes
        (N, K, 4).
    image_size
        (H, W).
    dtype
        Type of the result and of the arithmetic.

    Returns
    -------
    image_gradient
        (N, C, H, W).
    """
    rows, columns = _matrices(boxes, gradient.shape[3:], image_size, dtype)
    stripes = torch.einsum("nkcyx,nkxw->nkcyw", gradient.to(dtype), columns)
    return torch.einsum("nkyh,nkcyw->nchw", rows, stripes)


def random_crops_reference(
    images: torch.Tensor,
    boxes: torch.Tensor,
    size: tuple[int, int],
    *,
    std: float | torch.Tensor = 0.0,
    uniform_width: float | torch.Tensor | None = None,
    seed: int = 0,
    identities: Sequence[int] | torch.Tensor | None = None,
    step: int | torch.Tensor = 0,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """Crop, resize and add noise: see `fvfast.ops.random_crops`."""
    crops = crop_and_resize_reference(images, boxes, size)
    scales = (std, 0.0 if uniform_width is None else uniform_width)
    # Whether a tensor is 0 is not asked: the host would wait for a GPU.
    if any(isinstance(scale, torch.Tensor) or scale > 0 for scale in scales):
        identities = range(len(images)) if identities is None else identities
        crops = inject_noise_reference(
            crops, std, seed=seed, identities=identities, step=step, uniform_width=uniform_width
        )
    return crops.flatten(0, 1).to(dtype or images.dtype).contiguous(memory_format=memory_format)
