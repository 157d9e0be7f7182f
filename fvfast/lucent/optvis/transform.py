"""Transformations of images, which make what is drawn robust: Lucent's ``transform``.

A transformation is a function of images (N, C, H, W). Those that are random draw anew at each call,
once for the whole batch, from torch's global generator of the CPU.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat, TypeVar

import torch
from torch.nn import functional

from fvfast._shared.checks import check_count, check_images
from fvfast.transformations import Transformation as Transformation
from fvfast.transformations import compose_transformations

V = TypeVar("V")

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_TO_DEGREES = {
    "degrees": 1.0,
    "radians": 180 / math.pi,
    "rads": 180 / math.pi,
    "rad": 180 / math.pi,
}


def jitter(d: int) -> Transformation:
    """Move the images by 0 to d - 1 pixels to the right and down; zeros come in.

    Parameters
    ----------
    d
        At least 2.

    Returns
    -------
    jitter
        (N, C, H, W) -> (N, C, H, W).

    Raises
    ------
    TypeError, ValueError
        ``d`` is not an integer of at least 2.
    """
    check_count(d, "jitter: d", 2)

    def moved(images: torch.Tensor) -> torch.Tensor:
        right, down = (int(torch.randint(d, (), device="cpu")) for _ in range(2))
        height, width = images.shape[2:]
        # What is moved out of the image leaves nothing but zeros.
        kept = images[:, :, : max(0, height - down), : max(0, width - right)]
        return functional.pad(kept, (width - kept.shape[3], 0, height - kept.shape[2], 0))

    return moved


def pad(w: int, mode: str = "reflect", constant_value: float = 0.5) -> Transformation:
    """Add a border.

    Parameters
    ----------
    w
        Width of the border in pixels, at least 0.
    mode
        "reflect", "replicate" or "circular", which continue the images, or "constant".
    constant_value
        The value of a constant border.

    Returns
    -------
    pad
        (N, C, H, W) -> (N, C, H + 2 w, W + 2 w).

    Raises
    ------
    TypeError, ValueError
        An argument is none of these.
    """
    check_count(w, "pad: w", 0)
    modes = ("reflect", "constant", "replicate", "circular")
    if mode not in modes:
        raise ValueError(f"pad: mode is {mode!r}; expected one of {', '.join(map(repr, modes))}.")

    def padded(images: torch.Tensor) -> torch.Tensor:
        if mode == "constant":
            return functional.pad(images, [w] * 4, value=constant_value)
        if mode == "reflect" and w >= min(images.shape[2:]):
            raise ValueError(
                f"pad: a border of {w} pixels cannot be reflected in images of "
                f"{images.shape[2]} x {images.shape[3]}; use larger images, a smaller border or "
                "mode='replicate'."
            )
        return functional.pad(images, [w] * 4, mode=mode)

    return padded


def random_scale(scales: Sequence[float]) -> Transformation:
    """Resize by a factor drawn from a list; images that become smaller get a border of zeros.

    Parameters
    ----------
    scales
        The factors, positive.

    Returns
    -------
    scale
        (N, C, H, W) -> (N, C, H', W'), H' and W' at least H and W: sizes are rounded up. Pixels are
        interpolated bilinearly between the centers of those at the corners.

    Raises
    ------
    ValueError
        ``scales`` is empty, or one of them is not a positive number.
    """
    choices = _numbers(scales, "random_scale: scales")
    if min(choices) <= 0:
        raise ValueError(f"random_scale: scales must be positive, got {min(choices)}.")

    def scaled(images: torch.Tensor) -> torch.Tensor:
        factor = _chosen(choices)
        height, width = images.shape[2:]
        size = math.ceil(factor * height), math.ceil(factor * width)
        down, right = (
            max(0, math.ceil((full - part) / 2))
            for full, part in zip((height, width), size, strict=True)
        )
        return functional.pad(_resized(images, size), (right, right, down, down))

    return scaled


def random_rotate(angles: Sequence[float], units: str = "degrees") -> Transformation:
    """Rotate about the center by an angle drawn from a list; zeros come in.

    Parameters
    ----------
    angles
        The angles; positive ones turn counterclockwise.
    units
        "degrees" or "radians" ("rads", "rad").

    Returns
    -------
    rotate
        (N, C, H, W) -> (N, C, H, W), interpolated bilinearly.

    Raises
    ------
    ValueError
        ``angles`` is empty or not of numbers, or the units are unknown.
    """
    choices = _numbers(angles, "random_rotate: angles")
    factor = _TO_DEGREES.get(str(units).lower())
    if factor is None:
        raise ValueError(f"random_rotate: units is {units!r}; expected 'degrees' or 'radians'.")
    degrees = [angle * factor for angle in choices]

    def rotated(images: torch.Tensor) -> torch.Tensor:
        return _rotated(images, math.radians(_chosen(degrees)))

    return rotated


def compose(transforms: Sequence[Transformation]) -> Transformation:
    """Apply transformations one after the other.

    Parameters
    ----------
    transforms
        Functions (N, C, H, W) -> (N, C, H', W'), first to last.

    Returns
    -------
    transform
        The chain of them.

    Raises
    ------
    TypeError
        One of them cannot be called.
    """
    return compose_transformations(transforms)


def normalize() -> Transformation:
    """Subtract ImageNet's mean and divide by its deviation, as torchvision's networks expect.

    Returns
    -------
    normalize
        (N, 3, H, W) -> (N, 3, H, W). It raises ValueError for another number of channels.
    """
    # One pair for each device and type: a copy to the GPU in each step would be slow.
    constants: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def normalized(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "normalize")
        if images.shape[1] != 3:
            raise ValueError(
                f"normalize: images have {images.shape[1]} channels, and ImageNet's mean and "
                "deviation have 3. Pass preprocess=False to render_vis, and a normalization of "
                "your own, if the network needs one, as the last of transforms."
            )
        key = (images.device, images.dtype)
        if key not in constants:
            mean, std = (
                torch.tensor(values, device=key[0], dtype=key[1])[:, None, None]
                for values in (_IMAGENET_MEAN, _IMAGENET_STD)
            )
            constants[key] = mean, std
        mean, std = constants[key]
        # Rounded as by torchvision, to the last bit.
        return (images - mean) / std

    return normalized


def preprocess_inceptionv1() -> Callable[[torch.Tensor], torch.Tensor]:
    """Bring images in [0, 1] to the range of Lucid's InceptionV1, [-117, 138].

    Returns
    -------
    preprocess
        (N, C, H, W) -> (N, C, H, W).
    """
    return lambda images: images * 255 - 117


def _numbers(values: Any, name: str) -> list[float]:
    listed = list(values) if hasattr(values, "__iter__") else [values]
    numbers = [
        float(one) for one in listed if isinstance(one, SupportsFloat) and math.isfinite(one)
    ]
    if not numbers or len(numbers) < len(listed):
        raise ValueError(f"{name} must be a list of finite numbers, at least one, got {values!r}.")
    return numbers


def _chosen(choices: Sequence[V]) -> V:
    return choices[int(torch.randint(len(choices), (), device="cpu"))]


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", align_corners=True)


def aligned_resize(size: tuple[int, int]) -> Transformation:
    """Return a transformation to (H, W) that keeps the pixels at the corners where they are."""
    return lambda images: _resized(images, size)


def _rotated(images: torch.Tensor, angle: float) -> torch.Tensor:
    """Rotate images counterclockwise by an angle in radians."""
    if angle == 0:
        return images
    height, width = images.shape[2:]
    cosine, sine = math.cos(angle), math.sin(angle)
    # Coordinates of the grid run from -1 to 1 along both axes, whatever the sizes.
    ratio = (height - 1) / max(width - 1, 1)
    matrix = [[cosine, -sine * ratio, 0], [sine / ratio if ratio else 0, cosine, 0]]
    theta = torch.tensor(matrix, dtype=images.dtype, device=images.device)
    size = [len(images), 1, height, width]
    grid = functional.affine_grid(theta.expand(len(images), 2, 3), size, align_corners=True)
    return functional.grid_sample(images, grid, align_corners=True)


standard_transforms: list[Transformation] = [
    pad(12, mode="constant", constant_value=0.5),
    jitter(8),
    random_scale([1 + (i - 5) / 50.0 for i in range(11)]),
    random_rotate([*range(-10, 11), *[0] * 5]),
    jitter(4),
]
"""What `fvfast.lucent.optvis.render.render_vis` uses by default."""
