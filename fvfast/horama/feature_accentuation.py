"""Horama's feature accentuation: a photograph's spectrum, changed until a unit responds."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fvfast._shared.checks import check_finite
from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.horama.ascent import Penalty, Preconditioned, draw_image, modes_of_a_run, views_of
from fvfast.horama.common import check_spectrum, to_range
from fvfast.horama.drawing import TorchDraws
from fvfast.horama.fourier_fv import get_fft_scale
from fvfast.horama.recipe import ObjectiveFunction, Recipe, Resampling, Size
from fvfast.ops.colors import decorrelate_colors
from fvfast.run.results import MacoImage

_MARGIN = 1e-3
"""Added to both sides of the logit, as in Horama: black and white have none that is finite."""


class SpectrumBackwardFunction(torch.autograd.Function):
    """The identity, whose gradient is scaled."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, spectrum_scaler: torch.Tensor) -> torch.Tensor:
        """Return ``x``."""
        ctx.save_for_backward(spectrum_scaler)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Scale the gradient."""
        (spectrum_scaler,) = ctx.saved_tensors
        return gradients[0] * spectrum_scaler, None


class SpectrumBackwardScaler(nn.Module):
    """The identity on spectra, whose gradient is scaled.

    Parameters
    ----------
    spectrum_scaler
        (1, H, W // 2 + 1): see `fvfast.horama.fourier_fv.get_fft_scale`.
    """

    spectrum_scaler: torch.Tensor

    def __init__(self, spectrum_scaler: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("spectrum_scaler", spectrum_scaler)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the spectrum (3, H, W // 2 + 1)."""
        scaled: torch.Tensor = SpectrumBackwardFunction.apply(x, self.spectrum_scaler)
        return scaled


def fa_preconditionner(
    spectrum: torch.Tensor,
    spectrum_backward_scaler: nn.Module,
    values_range: Sequence[float],
    device: torch.device | str | None = None,
    *,
    width: int | None = None,
) -> torch.Tensor:
    """Image of a spectrum, which is used as it is.

    Parameters
    ----------
    spectrum
        (3, H, W // 2 + 1), complex: see `inverse_image_spectrum`.
    spectrum_backward_scaler
        A `SpectrumBackwardScaler`.
    values_range
        (low, high) of the image.
    device
        Where the image is wanted. Default: where the spectrum is.
    width
        W; needed for odd widths.

    Returns
    -------
    image
        (3, H, W).

    Raises
    ------
    ValueError
        Shapes, width or range do not fit.
    """
    width = check_spectrum("fa_preconditionner", "spectrum", spectrum, width)
    scaled = spectrum_backward_scaler(spectrum)
    image = torch.fft.irfft2(scaled, s=(spectrum.shape[-2], width))
    return to_range(image if device is None else image.to(device), values_range)


def inverse_image_spectrum(
    image: torch.Tensor, device: torch.device | str | None = None
) -> torch.Tensor:
    """Spectrum of which `fa_preconditionner` makes an image, stretched to its range of values.

    Parameters
    ----------
    image
        (3, H, W), of any range of values.
    device
        Where the spectrum is wanted. Default: where the image is.

    Returns
    -------
    spectrum
        (3, H, W // 2 + 1), complex.

    Raises
    ------
    ValueError
        The image is not (3, H, W) of finite real numbers.
    """
    check_seed_image("inverse_image_spectrum", image)
    image = image if device is None else image.to(device)
    low, high = image.amin(), image.amax()
    stretched = (image - low) / torch.where(high > low, high - low, 1)
    logits = ((stretched + _MARGIN) / (1.0 - stretched + _MARGIN)).log()
    return torch.fft.rfft2(decorrelate_colors(logits))


def check_seed_image(function: str, image: Any) -> None:
    """Raise TypeError or ValueError unless an image is (3, H, W) of finite real numbers."""
    if not isinstance(image, torch.Tensor):
        raise TypeError(
            f"{function}: the image must be a tensor (3, H, W), got {type(image).__name__}."
        )
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(
            f"{function}: the image has shape {tuple(image.shape)}; expected (3, H, W). Gray "
            "images become RGB with image.expand(3, -1, -1)."
        )
    if not image.is_floating_point() or not bool(image.isfinite().all()):
        what = "values that are not finite" if image.is_floating_point() else f"{image.dtype}"
        raise ValueError(
            f"{function}: the image has {what}; expected finite floating point numbers. Divide "
            "8-bit values by 255."
        )


def parametrize(
    recipe: Recipe, decay_power: float, image_seed: torch.Tensor
) -> tuple[Preconditioned, torch.Tensor]:
    """Make the parametrization of a recipe from an image, and return the first image, too."""
    height, width = recipe.size
    image = image_seed.detach().to(recipe.device, torch.float32)
    if image.shape[1:] != recipe.size:
        image = F.interpolate(image[None], recipe.size, mode="bilinear", antialias=True)[0]
    scaler = SpectrumBackwardScaler(get_fft_scale(width, height, decay_power)).to(recipe.device)

    def precondition(state: torch.Tensor) -> torch.Tensor:
        return fa_preconditionner(
            torch.view_as_complex(state[0]), scaler, recipe.values_range, width=width
        )[None]

    state = torch.view_as_real(inverse_image_spectrum(image))[None].clone()
    start = Preconditioned(state, precondition, recipe.learning_rate)
    return start, start.render()


def distance(first: torch.Tensor, penalty: float) -> Penalty:
    """Return the mean square of the difference to the first image, times a weight."""
    return lambda image: (image - first).square().mean() * penalty


@result_kept
def accentuation(
    objective_function: ObjectiveFunction,
    image_seed: torch.Tensor,
    decay_power: float = 1.5,
    total_steps: int = 1000,
    learning_rate: float = 1.0,
    image_size: Size = 1280,
    model_input_size: Size = 224,
    noise: float = 0.05,
    values_range: Sequence[float] = (-2.5, 2.5),
    crops_per_iteration: int = 6,
    box_size: Sequence[float] = (0.20, 0.25),
    penalty: float = 1.0,
    device: torch.device | str | None = None,
    *,
    seed: int | None = None,
    resampling: Resampling = "horama",
    progress: bool = True,
) -> MacoImage:
    """Change a photograph until a function of it is large: accentuate what it responds to.

    Parameters
    ----------
    objective_function
        See `fvfast.horama.maco`, also for all that is not described here.
    image_seed
        The photograph (3, h, w), of any range of values, which is stretched to ``values_range``;
        resized to ``image_size``.
    decay_power
        Power of the frequency by which the gradient of the spectrum is divided. NAdam takes steps
        of the same size whatever that is, so it has next to no effect: see docs/accentuation.md.
    penalty
        Weight of the mean squared difference to the photograph, which is subtracted from the score.
    total_steps, learning_rate, image_size, model_input_size, noise, values_range
        See `fvfast.horama.maco`.
    crops_per_iteration, box_size, seed, resampling, progress
        See `fvfast.horama.maco`.
    device
        Default: a GPU if there is one, else where the photograph is.

    Returns
    -------
    image, transparency
        See `fvfast.horama.maco`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `fvfast.horama.maco`, and for a photograph that is not (3, h, w).

    References
    ----------
    Interface: Horama 0.3. Method: Hamblin et al. (2024), https://arxiv.org/abs/2402.10039.
    """
    check_seed_image("horama.accentuation", image_seed)
    recipe = Recipe.of("horama.accentuation", locals(), fallback=str(image_seed.device))
    decay_power = check_finite(decay_power, "decay_power")
    penalty = check_finite(penalty, "penalty")
    with modes_of_a_run():
        draws = TorchDraws(recipe.device, recipe.seed)
        start, first = parametrize(recipe, decay_power, image_seed)
        return draw_image(recipe, start, views_of(recipe, draws), distance(first, penalty))
