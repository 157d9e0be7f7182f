"""Random transformations of a batch of images, which make the result robust.

Each function returns a function (N, C, H, W) -> (N, C, H', W') that draws anew at each call from
PyTorch's global generator of the CPU, whatever the images' device. Crops, scales and blurs are
drawn once per call for the whole batch, flips once per image.

Source: C. Olah, A. Mordvintsev, L. Schubert, "Feature Visualization" (Distill, 2017); names,
argument order and numbers follow Xplique 2.0.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from fvfast._shared.checks import check_images

Transformation = Callable[[torch.Tensor], torch.Tensor]
"""Function from images (N, C, H, W) to images (N, C, H', W')."""

# A Gaussian much narrower than a pixel is a point, and its kernel would be 0 / 0 for even sizes.
_SMALLEST_SIGMA = 0.1


def _ordered_range(
    values: Sequence[float], smallest: float, name: str, function: str
) -> tuple[float, float]:
    if len(values) == 2:
        low, high = float(values[0]), float(values[1])
        if smallest <= low <= high < float("inf"):
            return low, high
    raise ValueError(
        f"{function}: {name} is {tuple(values)}; expected finite (low, high) with "
        f"{smallest} <= low <= high."
    )


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), dtype=torch.float32, device="cpu").item()


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize as tf.image.resize does by default: bilinear, half-pixel centers, no antialiasing.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    size
        (H', W') of the result, each at least 1.

    Returns
    -------
    images
        (N, C, H', W').

    Raises
    ------
    ValueError
        If the images have another shape or a size is below 1.
    """
    check_images(images, "resize")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"resize: size is {tuple(size)}; expected (height, width), each >= 1.")
    return functional.interpolate(images, size, mode="bilinear", align_corners=False)


def random_blur(
    sigma_range: tuple[float, float] = (1.0, 2.0), kernel_size: int = 10
) -> Transformation:
    """Gaussian blur of a random width, with zeros around the image.

    Parameters
    ----------
    sigma_range
        Smallest and largest standard deviation, in pixels, not negative; below 0.1 taken as 0.1.
    kernel_size
        Size of the kernel in pixels, at least 1. An even kernel moves the image by half a pixel
        toward larger coordinates, as in Xplique.

    Returns
    -------
    blur
        (N, C, H, W) -> (N, C, H, W), any number of channels.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    low, high = _ordered_range(sigma_range, 0, "sigma_range", "random_blur")
    low, high = max(low, _SMALLEST_SIGMA), max(high, _SMALLEST_SIGMA)
    if kernel_size < 1:
        raise ValueError(f"random_blur: kernel_size is {kernel_size}; expected at least 1.")
    positions = torch.arange(kernel_size, dtype=torch.float64, device="cpu") - (kernel_size - 1) / 2
    before = (kernel_size - 1) // 2
    after = kernel_size - 1 - before

    def blur(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "random_blur")
        kernel = (-0.5 * (positions / _uniform(low, high)) ** 2).exp()
        kernel = (kernel / kernel.sum()).to(images)
        # One plane per channel, and one axis after the other, since the Gaussian is a product.
        planes = images.flatten(0, 1)[:, None]  # (N * C, 1, H, W)
        planes = functional.pad(planes, (before, after, before, after))
        planes = functional.conv2d(planes, kernel[None, None, :, None])
        planes = functional.conv2d(planes, kernel[None, None, None, :])
        return planes.reshape(images.shape)

    return blur


def random_blur_grayscale(
    sigma_range: tuple[float, float] = (1.0, 2.0), kernel_size: int = 10
) -> Transformation:
    """Gaussian blur of a random width: `random_blur`, which serves any number of channels.

    Parameters
    ----------
    sigma_range, kernel_size
        See `random_blur`.

    Returns
    -------
    blur
        (N, C, H, W) -> (N, C, H, W).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    return random_blur(sigma_range, kernel_size)


def random_jitter(delta: int = 6) -> Transformation:
    """Crop at a random place, ``delta`` pixels smaller.

    Parameters
    ----------
    delta
        Pixels that the height and the width lose, at least 0.

    Returns
    -------
    jitter
        (N, C, H, W) -> (N, C, H - delta, W - delta). It raises ValueError where the image is not
        larger than ``delta``.

    Raises
    ------
    ValueError
        If ``delta`` is negative.
    """
    if delta < 0:
        raise ValueError(f"random_jitter: delta is {delta}; expected at least 0.")

    def jitter(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "random_jitter")
        height, width = images.shape[2] - delta, images.shape[3] - delta
        if height < 1 or width < 1:
            raise ValueError(
                f"random_jitter: delta is {delta} and the images are {images.shape[2]} x "
                f"{images.shape[3]}; expected images larger than delta in both directions. Use "
                "larger images, a smaller delta or no transformations."
            )
        top, left = torch.randint(0, delta + 1, (2,), device="cpu").tolist()
        return images[:, :, top : top + height, left : left + width]

    return jitter


def random_scale(scale_range: tuple[float, float] = (0.95, 1.05)) -> Transformation:
    """Resize by a random factor, the same in both directions.

    Parameters
    ----------
    scale_range
        Smallest and largest factor, positive.

    Returns
    -------
    scale
        (N, C, H, W) -> (N, C, floor(H * factor), floor(W * factor)): see `resize`. It raises
        ValueError where nothing would be left of the image.

    Raises
    ------
    ValueError
        If ``scale_range`` is not (low, high) with 0 < low <= high.
    """
    low, high = _ordered_range(scale_range, 0, "scale_range", "random_scale")
    if low == 0:
        raise ValueError(f"random_scale: scale_range is {(low, high)}; expected factors above 0.")

    def scale(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "random_scale")
        factor = _uniform(low, high)
        height, width = int(images.shape[2] * factor), int(images.shape[3] * factor)
        if height < 1 or width < 1:
            raise ValueError(
                f"random_scale: the factor {factor:.3f} leaves nothing of images of "
                f"{images.shape[2]} x {images.shape[3]}; expected larger images or factors."
            )
        return resize(images, (height, width))

    return scale


def random_flip(horizontal: bool = True, vertical: bool = False) -> Transformation:
    """Mirror each image with probability 1/2, independently of the others.

    Parameters
    ----------
    horizontal
        Exchange left and right.
    vertical
        Exchange top and bottom.

    Returns
    -------
    flip
        (N, C, H, W) -> (N, C, H, W).
    """
    dimensions = [3] * horizontal + [2] * vertical

    def flip(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "random_flip")
        for dimension in dimensions:
            chances = torch.rand(len(images), 1, 1, 1, dtype=torch.float32, device="cpu")
            mirrored = (chances < 0.5).to(images.device)
            images = torch.where(mirrored, images.flip(dimension), images)
        return images

    return flip


def pad(size: int = 6, pad_value: float = 0.0) -> Transformation:
    """Add a border of one value.

    Parameters
    ----------
    size
        Width of the border in pixels, at least 0.
    pad_value
        Its value, in units of the images.

    Returns
    -------
    pad
        (N, C, H, W) -> (N, C, H + 2 * size, W + 2 * size).

    Raises
    ------
    ValueError
        If ``size`` is negative.
    """
    if size < 0:
        raise ValueError(f"pad: size is {size}; expected at least 0.")

    def pad_images(images: torch.Tensor) -> torch.Tensor:
        check_images(images, "pad")
        return functional.pad(images, (size, size, size, size), value=pad_value)

    return pad_images


def compose_transformations(transformations: Sequence[Transformation]) -> Transformation:
    """Apply transformations one after the other.

    Parameters
    ----------
    transformations
        Functions (N, C, H, W) -> (N, C, H', W'), first to last. An empty list changes
        nothing.

    Returns
    -------
    transformation
        All of them, chained.

    Raises
    ------
    TypeError
        If one of them cannot be called.
    """
    functions = tuple(transformations)
    for function in functions:
        if not callable(function):
            raise TypeError(
                f"compose_transformations: {function!r} is not a function of images; expected "
                "functions such as random_jitter(6)."
            )

    def composed(images: torch.Tensor) -> torch.Tensor:
        for function in functions:
            images = function(images)
        return images

    return composed


def generate_standard_transformations(size: int, channels: int = 3) -> Transformation:
    """Chain the transformations that Xplique uses by default in `optimize`.

    With unit = size // 16: a border of 4 units, crops of 16 units in all, a scale of 0.92 to 0.96,
    a blur of 1.0 to 1.1 pixels, crops of 2 units and a horizontal flip. About a third of the
    image's width remains: 512 pixels become 171 to 181.

    Parameters
    ----------
    size
        Height of the images in pixels, at least 1.
    channels
        Number of channels, at least 1. The transformations are the same for any number.

    Returns
    -------
    transformation
        (N, C, H, W) -> (N, C, H', W').

    Raises
    ------
    ValueError
        If ``size`` or ``channels`` is below 1.
    """
    if size < 1 or channels < 1:
        raise ValueError(
            f"generate_standard_transformations: size and channels are {size} and {channels}; "
            "expected at least 1."
        )
    unit = int(size / 16)
    return compose_transformations(
        (
            pad(unit * 4, 0.0),
            random_jitter(unit * 2),
            random_jitter(unit * 2),
            random_jitter(unit * 4),
            random_jitter(unit * 4),
            random_jitter(unit * 4),
            random_scale((0.92, 0.96)),
            random_blur(sigma_range=(1.0, 1.1)),
            random_jitter(unit),
            random_jitter(unit),
            random_flip(),
        )
    )
