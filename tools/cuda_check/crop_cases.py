"""Cases that measure the traffic of boxes, crops, their gradient, and noise."""

from collections.abc import Sequence

import numpy as np
import torch
from cuda_check.floors import CHANNELS, CROP, IMAGE, SEED, Case, Floor
from cuda_check.replay import Replay
from numpy.typing import NDArray
from ptx_interpreter.module import FIRST_WITH_CLUSTERS

from fvfast.ops.boxes import draw_boxes
from fvfast.ops.crop_resize import random_crops
from fvfast.ops.noise import inject_noise


def _inside(start: float, stop: float, size: int, length: int) -> NDArray[np.float64]:
    """Return the positions, in pixels, of the samples of an axis that lie inside the image."""
    fractions = np.arange(size) / (size - 1) if size > 1 else np.array([0.5])
    positions = start * (length - 1) + fractions * (stop - start) * (length - 1)
    return positions[(positions >= 0) & (positions <= length - 1)]


def _pixels(start: float, stop: float, size: int, length: int) -> int:
    """Count the pixels of an axis that its samples read, with a weight that is not 0."""
    positions = _inside(start, stop, size, length)
    lower = np.floor(positions)
    return len(np.union1d(lower, lower[positions > lower] + 1))


def pixels_read(boxes: torch.Tensor, crop: tuple[int, int], image: tuple[int, int]) -> int:
    """Count the pixels that the samples of each box read, once for each box.

    Parameters
    ----------
    boxes
        (..., 4) as (y1, x1, y2, x2) in fractions of the image.
    crop, image
        (height, width).

    Returns
    -------
    pixels
        Number of pixels for all boxes, in one channel.
    """
    return sum(
        _pixels(y1, y2, crop[0], image[0]) * _pixels(x1, x2, crop[1], image[1])
        for y1, x1, y2, x2 in boxes.reshape(-1, 4).double().tolist()
    )


def samples_inside(boxes: torch.Tensor, crop: tuple[int, int], image: tuple[int, int]) -> int:
    """Count the samples of all boxes that lie inside the image: see `pixels_read`."""
    return sum(
        len(_inside(y1, y2, crop[0], image[0])) * len(_inside(x1, x2, crop[1], image[1]))
        for y1, x1, y2, x2 in boxes.reshape(-1, 4).double().tolist()
    )


PARTS = 4  # of the work on a tile of one image, on devices without clusters
SIDES = (0.5, 0.25, 0.05)  # of boxes: MaCo's first, those half way down, and its last
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _boxes(crops: int, side: float = 0.25) -> torch.Tensor:
    return draw_boxes(side, crops, seed=SEED, identities=[0], step=0)


def run_boxes(_: Replay, crops: int) -> Sequence[Floor]:
    """Draw boxes: 4 float32 each are written, nothing is read."""
    boxes = _boxes(crops)
    return [Floor("boxes_kernel", boxes.nbytes, crops)]


def run_noise(_: Replay, crops: int) -> Sequence[Floor]:
    """Add noise to crops, which are read once and written once."""
    images = torch.rand(1, crops, CHANNELS, CROP, CROP)
    inject_noise(images, 0.5, seed=SEED, identities=[0], step=0)
    return [Floor("noise_kernel", 2 * images.nbytes, images.numel())]


def crop_resize_case(side: float, layout: str, dtype: torch.dtype, std: float) -> Case:
    """Crop: each crop is written once, and the pixels of its box are read once."""

    def run(replay: Replay, crops: int) -> Sequence[Floor]:
        boxes = _boxes(crops, side)
        replay.launches.clear()  # those that drew the boxes
        images = torch.rand(1, CHANNELS, IMAGE, IMAGE)
        out = random_crops(images, boxes, CROP, std=std, dtype=dtype, memory_format=FORMATS[layout])
        pixels = pixels_read(boxes, (CROP, CROP), (IMAGE, IMAGE))
        read = CHANNELS * pixels * images.element_size() + boxes.nbytes
        return [Floor("crop_kernel", out.nbytes + read, out.numel())]

    return Case(f"crop {side} {layout} {_short(dtype)}{' noise' if std else ''}", run)


def crop_gradient_case(side: float, layout: str, dtype: torch.dtype) -> Case:
    """The gradient of cropping, transparency, and what a step learns of the gradient.

    Crop gradients of samples inside the image are read once, the image's gradient is written once,
    transparency is read and written once. Where blocks have parts of the crops, each part of the
    image's gradient is written once, and read once. Clusters of blocks keep them to themselves.
    """

    def run(replay: Replay, crops: int) -> Sequence[Floor]:
        boxes = _boxes(crops, side)
        transparency = torch.zeros(1, CHANNELS, IMAGE, IMAGE)
        gradient = torch.rand(crops, CHANNELS, CROP, CROP).to(dtype)
        gradient = gradient.contiguous(memory_format=FORMATS[layout])
        running, flags = torch.tensor([True]), torch.zeros(1, dtype=torch.int32)
        replay.launches.clear()
        image_gradient = torch.ops.fvfast.crop_gradient(
            gradient, boxes, IMAGE, IMAGE, torch.float32, transparency, running, flags
        )
        samples = samples_inside(boxes, (CROP, CROP), (IMAGE, IMAGE))
        read = CHANNELS * samples * gradient.element_size() + boxes.nbytes
        accumulated = 2 * transparency.nbytes
        if replay.capability >= FIRST_WITH_CLUSTERS and crops > 1:
            whole = read + image_gradient.nbytes + accumulated
            return [
                Floor("crop_gradient_cluster_kernel", whole, gradient.numel(), most_traffic=1.5)
            ]
        if crops < 2 * PARTS:
            written = image_gradient.nbytes + accumulated
            return [Floor("crop_gradient_kernel", read + written, gradient.numel())]
        parts = PARTS * image_gradient.nbytes
        added = parts + image_gradient.nbytes + accumulated
        return [
            # Each block looks at all boxes.
            Floor("crop_gradient_kernel", read + parts, gradient.numel(), most_traffic=1.5),
            Floor("add_parts_kernel", added, image_gradient.numel()),
        ]

    return Case(f"gradient {side} {layout} {_short(dtype)}", run)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


GRADIENTS = [
    *(crop_gradient_case(side, layout, torch.float32) for side in SIDES for layout in FORMATS),
    crop_gradient_case(0.25, "channels_last", torch.bfloat16),
]
CASES = [
    Case("boxes", run_boxes),
    Case("noise", run_noise),
    *(
        crop_resize_case(side, layout, torch.float32, std)
        for side in SIDES
        for layout in FORMATS
        for std in ((0.0, 0.5) if side == SIDES[1] else (0.0,))
    ),
    crop_resize_case(0.25, "channels_last", torch.bfloat16, 0.5),
    *GRADIENTS,
]
