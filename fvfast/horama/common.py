"""What Horama's methods have in common, under Horama's names."""

from collections.abc import Callable, Sequence

import torch

from fvfast._shared.checks import check_values_range
from fvfast.horama.drawing import TorchDraws
from fvfast.horama.resampling import horama_crops
from fvfast.ops import colors

EPSILON = 1e-4
"""Added to the standard deviation by `standardize`."""


def standardize(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor mean 0 and sample standard deviation 1, over all its values.

    Parameters
    ----------
    tensor
        Real or complex. Horama's `EPSILON` is added to the deviation.

    Returns
    -------
    tensor
        Same shape and type.
    """
    centered = tensor - tensor.mean()
    return centered / (tensor.std() + EPSILON)


def get_color_correlation_svd_sqrt(device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the matrix (3, 3) of `recorrelate_colors`, on a device."""
    return torch.tensor(colors.COLOR_CORRELATION, dtype=torch.float32, device=device)


def recorrelate_colors(
    image: torch.Tensor, device: torch.device | str | None = None
) -> torch.Tensor:
    """Map decorrelated channels to RGB.

    Parameters
    ----------
    image
        (..., 3, H, W).
    device
        Where the result is wanted. Default: where the image is.

    Returns
    -------
    image
        Same shape; any range.

    Raises
    ------
    ValueError
        The image does not have 3 channels.
    """
    return colors.recorrelate_colors(image if device is None else image.to(device))


def to_range(image: torch.Tensor, values_range: Sequence[float]) -> torch.Tensor:
    """Recorrelate the colors (..., 3, H, W) and squeeze the values into a range by a sigmoid."""
    low, high = check_values_range(values_range, "fvfast.horama")
    return colors.recorrelate_colors(image).sigmoid() * (high - low) + low


def check_spectrum(function: str, name: str, values: torch.Tensor, width: int | None) -> int:
    """Return the width of the image of a half spectrum (..., 3, H, W // 2 + 1).

    Parameters
    ----------
    function, name
        For the message.
    values
        The half spectrum.
    width
        W as it was given; None for the even width.

    Raises
    ------
    ValueError
        There are not 3 channels, or the width does not fit.
    """
    if values.ndim < 3 or values.shape[-3] != 3:
        raise ValueError(
            f"{function}: {name} has shape {tuple(values.shape)}; expected (3, H, W // 2 + 1)."
        )
    half = values.shape[-1]
    if width is None:
        return 2 * (half - 1)
    if width // 2 + 1 != half:
        raise ValueError(
            f"{function}: width is {width}, and {name} has {half} columns; expected "
            f"{2 * half - 2} or {2 * half - 1}."
        )
    return width


def optimization_step(
    objective_function: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    box_size: Sequence[float],
    noise_level: float,
    number_of_crops_per_iteration: int,
    model_input_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Show the objective noisy crops of an image, as each step of Horama does.

    Parameters
    ----------
    objective_function
        From crops (K, 3, h, w) to a score.
    image
        (3, H, W), attached to what is optimized; it keeps its gradient.
    box_size
        (low, high): sides of the boxes are U(high, 2 high - low) of the image (see docs/horama.md).
    noise_level
        Standard deviation of the normal part of the noise, and width of its uniform part.
    number_of_crops_per_iteration
        K.
    model_input_size
        Side of the crops.

    Returns
    -------
    loss
        The negative score.
    image
        The image as given.

    Raises
    ------
    ValueError
        The image is not (3, H, W), or the box sizes are not ascending.
    """
    if image.ndim != 3:
        raise ValueError(
            f"optimization_step: image has shape {tuple(image.shape)}; expected (3, H, W)."
        )
    low, high = box_size
    if low > high:
        raise ValueError(f"optimization_step: box_size is {(low, high)}; expected (low, high).")
    image.retain_grad()
    draws = TorchDraws(image.device)
    boxes = draws.boxes(number_of_crops_per_iteration, (low, high))
    crops = horama_crops(image, boxes, (model_input_size, model_input_size))
    return -objective_function(draws.noisy(crops, noise_level)), image
