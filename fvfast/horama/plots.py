"""Horama's functions for figures."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fvfast import plot


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor as an array on the CPU."""
    values: NDArray[Any] = tensor.detach().cpu().numpy()
    return values


def check_format(arr: torch.Tensor | ArrayLike) -> NDArray[Any]:
    """Return a picture as an array with the channels last: (C, H, W) of 1 or 3 channels, moved."""
    array = to_numpy(arr) if isinstance(arr, torch.Tensor) else np.asarray(arr)
    return np.moveaxis(array, 0, -1) if array.shape[0] in (1, 3) else array


def normalize(image: ArrayLike) -> NDArray[np.float32]:
    """Stretch values to [0, 1]; a single value becomes 0."""
    values = np.array(image, dtype=np.float32)
    values -= values.min()
    highest = values.max()
    return values / highest if highest > 0 else values


def clip_percentile(img: ArrayLike, percentile: float = 0.1) -> NDArray[Any]:
    """Clip values to their percentiles (p, 100 - p)."""
    values = np.asarray(img)
    low, high = np.percentile(values, (percentile, 100 - percentile))
    return np.clip(values, low, high)


def show(img: torch.Tensor | ArrayLike, **kwargs: Any) -> None:
    """Draw a picture on pyplot's current axes, its values stretched.

    Parameters
    ----------
    img
        (C, H, W), (H, W, C) or (H, W), of 1 or 3 channels.
    **kwargs
        Of ``pyplot.imshow``.
    """
    from matplotlib import pyplot

    values = normalize(check_format(img))
    if values.ndim == 3 and values.shape[-1] == 1:
        kwargs.setdefault("cmap", "gray")
        values = values[..., 0]
    pyplot.imshow(values, **kwargs)
    pyplot.axis("off")


def plot_maco(
    image: torch.Tensor | ArrayLike,
    alpha: torch.Tensor | ArrayLike | None = None,
    percentile_image: float = 1.0,
    percentile_alpha: float = 80,
) -> None:
    """Draw a picture with its transparency on pyplot's current axes.

    Parameters
    ----------
    image, alpha, percentile_image, percentile_alpha
        See `fvfast.plot.plot_maco`, whose style "horama" this is.

    Raises
    ------
    ValueError
        See `fvfast.plot.blend_transparency`.
    """
    plot.plot_maco(image, alpha, percentile_image, percentile_alpha, style="horama")
