"""Cuts boxes out of images and resizes them, as TensorFlow's ``crop_and_resize`` does."""

from collections.abc import Sequence

import torch


def sample_weights(start: torch.Tensor, stop: torch.Tensor, size: int, length: int) -> torch.Tensor:
    """Bilinear weights with which one axis of a box is sampled.

    Resampling is linear and separable: a crop is ``rows @ image @ columns.T`` with two such
    matrices.

    Parameters
    ----------
    start, stop
        Ends of the boxes as fractions of the axis, (...,); 0 is the centre of the first pixel and 1
        that of the last.
    size
        Number of samples, evenly spread from start to stop; a single sample sits in the middle.
    length
        Number of pixels of the axis.

    Returns
    -------
    weights
        (..., size, length): two non-zero entries per row at most, none where the sample lies
        outside the image.
    """
    if size > 1:
        fraction = torch.arange(size, dtype=start.dtype, device=start.device) / (size - 1)
    else:
        fraction = torch.full((1,), 0.5, dtype=start.dtype, device=start.device)
    span = (stop - start).unsqueeze(-1) * (length - 1)
    position = start.unsqueeze(-1) * (length - 1) + fraction * span  # (..., size)
    inside = (position >= 0) & (position <= length - 1)
    position = torch.where(inside, position, 0.0)
    lower = position.floor()
    upper = position.ceil()
    share = (position - lower).unsqueeze(-1)  # of the upper pixel
    pixels = torch.arange(length, dtype=start.dtype, device=start.device)
    weights = (pixels == lower.unsqueeze(-1)) * (1 - share)
    weights = weights + (pixels == upper.unsqueeze(-1)) * share
    return weights * inside.unsqueeze(-1)


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
    y1, x1, y2, x2 = boxes.to(images.dtype).unbind(-1)  # (N, K) each
    rows = sample_weights(y1, y2, size[0], images.shape[2])  # (N, K, height, H)
    columns = sample_weights(x1, x2, size[1], images.shape[3])  # (N, K, width, W)
    stripes = torch.einsum("nkyh,nchw->nkcyw", rows, images)  # (N, K, C, height, W)
    return torch.einsum("nkcyw,nkxw->nkcyx", stripes, columns)


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
    height, width = (size, size) if isinstance(size, int) else tuple(size)
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
