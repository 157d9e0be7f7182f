"""The random transformations that users call, and the numbers that each draws."""

from collections.abc import Sequence

import torch

from fvfast.transformations.chains import RandomSteps, Transformation, compose_transformations
from fvfast.transformations.steps import Blur, Crop, Flip, Pad, Resize

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

    def draw(_count: int, height: int, width: int) -> tuple[list[Blur], tuple[int, int]]:
        kernel = (-0.5 * (positions / _uniform(low, high)) ** 2).exp()
        return [Blur(kernel / kernel.sum())], (height, width)

    return RandomSteps("random_blur", draw)


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

    def draw(_count: int, height: int, width: int) -> tuple[list[Crop], tuple[int, int]]:
        size = height - delta, width - delta
        if min(size) < 1:
            raise ValueError(
                f"random_jitter: delta is {delta} and the images are {height} x {width}; expected "
                "images larger than delta in both directions. Use larger images, a smaller delta "
                "or no transformations."
            )
        top, left = torch.randint(0, delta + 1, (2,), device="cpu").tolist()
        return [Crop((top, left), size)], size

    return RandomSteps("random_jitter", draw)


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

    def draw(_count: int, height: int, width: int) -> tuple[list[Resize], tuple[int, int]]:
        factor = _uniform(low, high)
        size = int(height * factor), int(width * factor)
        if min(size) < 1:
            raise ValueError(
                f"random_scale: the factor {factor:.3f} leaves nothing of images of {height} x "
                f"{width}; expected larger images or factors."
            )
        return [Resize(size)], size

    return RandomSteps("random_scale", draw)


def resize_to(size: tuple[int, int]) -> Transformation:
    """Resize, as a part of a chain: see `fvfast.transformations.resize`."""

    def draw(_count: int, _height: int, _width: int) -> tuple[list[Resize], tuple[int, int]]:
        return [Resize(size)], size

    return RandomSteps("resize", draw)


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
    axes = [1] * horizontal + [0] * vertical

    def draw(count: int, height: int, width: int) -> tuple[list[Flip], tuple[int, int]]:
        flips = [
            Flip(axis, torch.rand(count, dtype=torch.float32, device="cpu") < 0.5) for axis in axes
        ]
        return flips, (height, width)

    return RandomSteps("random_flip", draw)


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

    def draw(_count: int, height: int, width: int) -> tuple[list[Pad], tuple[int, int]]:
        return [Pad(size, pad_value)], (height + 2 * size, width + 2 * size)

    return RandomSteps("pad", draw)


def _check_sizes(size: int, channels: int, function: str) -> None:
    if size < 1 or channels < 1:
        raise ValueError(
            f"{function}: size and channels are {size} and {channels}; expected at least 1."
        )


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
    _check_sizes(size, channels, "generate_standard_transformations")
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


def generate_lucid_transformations(size: int, channels: int = 3) -> Transformation:
    """Chain transformations that move and scale the image a little, as Lucid's do.

    For 128 pixels: a border of 12, crops of 8 pixels, a scale of 0.9 to 1.1, and crops of 4; for
    other sizes in proportion. Nearly the whole image remains. Lucid also rotates it by up to 10
    degrees.

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

    References
    ----------
    ``lucid.optvis.transform.standard_transforms``, https://github.com/tensorflow/lucid.
    """
    _check_sizes(size, channels, "generate_lucid_transformations")
    border, first, second = (round(pixels * size / 128) for pixels in (12, 8, 4))
    return compose_transformations(
        (pad(border, 0.0), random_jitter(first), random_scale((0.9, 1.1)), random_jitter(second))
    )
