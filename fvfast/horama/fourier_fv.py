"""Horama's Fourier feature visualization: a free, standardized spectrum."""

from collections.abc import Sequence

import torch

from fvfast._shared.checks import check_finite
from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.horama.ascent import Preconditioned, draw_image, modes_of_a_run, views_of
from fvfast.horama.common import check_spectrum, standardize, to_range
from fvfast.horama.drawing import TorchDraws
from fvfast.horama.recipe import ObjectiveFunction, Recipe, Resampling, Size
from fvfast.parametrizations import fourier as coefficients
from fvfast.run.results import MacoImage


def fft_2d_freq(width: int, height: int) -> torch.Tensor:
    """Length of the frequency vector of each bin: (height, width // 2 + 1), cycles per pixel.

    Horama 0.3 has one column too many for odd widths, which its own transforms do not fit.
    """
    return coefficients.fft_2d_freq(width, height).float()


def get_fft_scale(width: int, height: int, decay_power: float = 1.0) -> torch.Tensor:
    """Factor of each bin that damps high frequencies.

    Parameters
    ----------
    width, height
        Size of the image, each at least 1.
    decay_power
        Larger values leave less energy to the high frequencies.

    Returns
    -------
    fft_scale
        (1, height, width // 2 + 1), complex64.
    """
    return coefficients.get_fft_scale(width, height, decay_power).to(torch.complex64)[None]


def init_lucid_buffer(
    width: int, height: int, std: float = 1.0, *, seed: int | None = None
) -> torch.Tensor:
    """Random half spectrum (3, height, width // 2 + 1), complex64, of normal numbers.

    (Horama 0.3 swaps width and height, which shows where they differ.)

    Parameters
    ----------
    width, height
        Size of the image.
    std
        Standard deviation of real and imaginary part.
    seed
        Default: torch's global generator.
    """
    return _random_spectrum(width, height, TorchDraws(torch.device("cpu"), seed)) * std


def _random_spectrum(width: int, height: int, draws: TorchDraws) -> torch.Tensor:
    shape = (3, height, width // 2 + 1)
    return torch.complex(draws.normal(*shape), draws.normal(*shape))


def fourier_preconditionner(
    spectrum: torch.Tensor,
    spectrum_scaler: torch.Tensor,
    values_range: Sequence[float],
    device: torch.device | str | None = None,
    *,
    width: int | None = None,
) -> torch.Tensor:
    """Image of a spectrum, which is standardized and scaled.

    Parameters
    ----------
    spectrum
        (3, H, W // 2 + 1), complex.
    spectrum_scaler
        (1, H, W // 2 + 1): see `get_fft_scale`.
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
    width = check_spectrum("fourier_preconditionner", "spectrum", spectrum, width)
    scaled = standardize(spectrum) * spectrum_scaler
    image = standardize(torch.fft.irfft2(scaled, s=(spectrum.shape[-2], width)))
    return to_range(image if device is None else image.to(device), values_range)


@result_kept
def fourier(
    objective_function: ObjectiveFunction,
    decay_power: float = 1.5,
    total_steps: int = 1000,
    learning_rate: float = 1.0,
    image_size: Size = 1280,
    model_input_size: Size = 224,
    noise: float = 0.05,
    values_range: Sequence[float] = (-2.5, 2.5),
    crops_per_iteration: int = 6,
    box_size: Sequence[float] = (0.20, 0.25),
    device: torch.device | str | None = None,
    *,
    seed: int | None = None,
    resampling: Resampling = "horama",
    progress: bool = True,
) -> MacoImage:
    """Find the image that maximizes a function, by its Fourier coefficients.

    Parameters
    ----------
    objective_function
        See `fvfast.horama.maco`, also for all that is not described here.
    decay_power
        Power with which high frequencies are damped.
    total_steps, learning_rate, image_size, model_input_size, noise, values_range
        See `fvfast.horama.maco`.
    crops_per_iteration, box_size, device, seed, resampling, progress
        See `fvfast.horama.maco`.

    Returns
    -------
    image, transparency
        See `fvfast.horama.maco`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `fvfast.horama.maco`.

    References
    ----------
    Interface: Horama 0.3. Method: Olah et al., "Feature Visualization", Distill 2017.
    """
    recipe = Recipe.of("horama.fourier", locals())
    decay_power = check_finite(decay_power, "decay_power")
    height, width = recipe.size
    with modes_of_a_run():
        draws = TorchDraws(recipe.device, recipe.seed)
        start = parametrize(recipe, decay_power, _random_spectrum(width, height, draws))
        return draw_image(recipe, start, views_of(recipe, draws))


def parametrize(recipe: Recipe, decay_power: float, spectrum: torch.Tensor) -> Preconditioned:
    """Make the parametrization of a recipe from its start (3, H, W // 2 + 1)."""
    height, width = recipe.size
    scaler = get_fft_scale(width, height, decay_power).to(recipe.device)

    def precondition(state: torch.Tensor) -> torch.Tensor:
        return fourier_preconditionner(
            torch.view_as_complex(state[0]), scaler, recipe.values_range, width=width
        )[None]

    # Real and imaginary parts as real numbers: NAdam takes steps in each.
    state = torch.view_as_real(spectrum.to(recipe.device))[None].clone()
    return Preconditioned(state, precondition, recipe.learning_rate)
