"""Horama's MaCo: optimized phases under the magnitudes of natural images."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.horama.ascent import Preconditioned, draw_image, modes_of_a_run, views_of
from fvfast.horama.common import EPSILON, check_spectrum, standardize, to_range
from fvfast.horama.drawing import TorchDraws
from fvfast.horama.recipe import ObjectiveFunction, Recipe, Resampling, Size
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON
from fvfast.parametrizations.base import Parametrization
from fvfast.parametrizations.optimizers import KerasNadam
from fvfast.parametrizations.phase import Phase
from fvfast.run.results import MacoImage
from fvfast.spectrum import Spectrum
from fvfast.spectrum.file import Kind, read_spectrum

HoramaSpectrum = Spectrum | str | os.PathLike[str] | None
"""See `init_maco_buffer`."""

MANY_PHASES = 150_000
"""From as many phases on, sample and population deviation are the same number in float32."""


def init_maco_buffer(
    image_shape: Sequence[int],
    std_deviation: float = 1.0,
    *,
    spectrum: HoramaSpectrum = None,
    seed: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitude and initial phase of MaCo.

    Parameters
    ----------
    image_shape
        (H, W), each at least 2.
    std_deviation
        Of the phase, which is normal.
    spectrum
        Where the magnitude comes from: a `fvfast.Spectrum`; the path of a file, also of the array
        ``spectrum_decorrelated.npy`` that Horama downloads, which is resized as Horama does
        (bilinearly, antialiased); or None for the closed form `fvfast.Spectrum.natural`.
    seed
        Default: torch's global generator.

    Returns
    -------
    magnitude, phase
        (3, H, W // 2 + 1) each, float32, on the CPU.

    Raises
    ------
    ValueError
        A size or the spectrum does not fit.
    OSError
        The file cannot be opened.
    """
    height, width = image_shape
    magnitude = _magnitude(spectrum, int(height), int(width))
    draws = TorchDraws(torch.device("cpu"), seed)
    return magnitude, draws.normal(*magnitude.shape) * std_deviation


def _magnitude(spectrum: HoramaSpectrum, height: int, width: int) -> torch.Tensor:
    if spectrum is None:
        spectrum = Spectrum.natural()
    if isinstance(spectrum, Spectrum):
        return spectrum.magnitude(height, width, 3)
    if not isinstance(spectrum, str | os.PathLike):
        raise TypeError(
            "spectrum must be a fvfast.Spectrum, the path of a file, or None, got "
            f"{type(spectrum).__name__}."
        )
    content = read_spectrum(Path(spectrum))
    if content.kind is not Kind.BILINEAR:
        return Spectrum.from_file(spectrum).magnitude(height, width, 3)
    if len(content.values) != 3:
        raise ValueError(
            f"{os.fspath(spectrum)} has magnitudes of {len(content.values)} channels; expected 3."
        )
    size = (height, width // 2 + 1)
    values = torch.from_numpy(content.values)[None]
    return F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)[0]


def maco_preconditioner(
    magnitude_template: torch.Tensor,
    phase: torch.Tensor,
    values_range: Sequence[float],
    device: torch.device | str | None = None,
    *,
    width: int | None = None,
) -> torch.Tensor:
    """Image of a phase under a fixed magnitude.

    Parameters
    ----------
    magnitude_template
        (3, H, W // 2 + 1).
    phase
        The same shape; standardized before use.
    values_range
        (low, high) of the image.
    device
        Where the image is wanted. Default: where the phase is.
    width
        W; needed for odd widths.

    Returns
    -------
    image
        (3, H, W), differentiable with respect to both.

    Raises
    ------
    ValueError
        Shapes, width or range do not fit.
    """
    width = check_spectrum("maco_preconditioner", "phase", phase, width)
    angle = standardize(phase)
    # Products, not torch.polar: it refuses broadcast and mixed types.
    spectrum = torch.complex(angle.cos() * magnitude_template, angle.sin() * magnitude_template)
    image = standardize(torch.fft.irfft2(spectrum, s=(phase.shape[-2], width)))
    return to_range(image if device is None else image.to(device), values_range)


def parametrize(recipe: Recipe, magnitude: torch.Tensor, phase: torch.Tensor) -> Parametrization:
    """Make the parametrization of a recipe from its start, both (3, H, W // 2 + 1)."""
    device, rate = recipe.device, recipe.learning_rate
    magnitude, state = magnitude.to(device), phase.to(device)[None]
    if phase.numel() < MANY_PHASES:
        return Preconditioned(
            state,
            lambda phases: maco_preconditioner(
                magnitude, phases[0], recipe.values_range, width=recipe.size[1]
            )[None],
            rate,
        )
    # fvfast's kernels add a smaller number to deviations. With phase and magnitude in units in
    # which it is Horama's, the image is the same, and so are the steps in these units.
    unit = STANDARDIZATION_EPSILON / EPSILON

    def nadam(tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
        return KerasNadam(
            tensors, lr=rate * unit, eps=1e-8 / unit, momentum_decay=4e-3, maximize=True
        )

    return Phase(magnitude * unit, state * unit, nadam, recipe.values_range, recipe.size[1])


@result_kept
def maco(
    objective_function: ObjectiveFunction,
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
    spectrum: HoramaSpectrum = None,
) -> MacoImage:
    """Find the image that maximizes a function, with natural Fourier magnitudes (MaCo).

    Interrupting the run (Ctrl-C) returns the image so far, with a warning. Before the first step,
    or twice within three seconds, it raises `KeyboardInterrupt`.

    Parameters
    ----------
    objective_function
        From crops (K, 3, h, w) on the device to one number, the score, such as ``lambda images:
        torch.mean(model(images)[:, 1])``. The model is used as it is: call ``eval()`` before. No
        gradients of its weights are computed.
    total_steps
        Number of steps, at least 1.
    learning_rate
        Of NAdam.
    image_size
        Side of the image, or (H, W), at least 2, odd or even.
    model_input_size
        Side of the crops, or (h, w).
    noise
        Standard deviation of the normal part and width of the uniform part of the noise that is
        added to crops.
    values_range
        (low, high) of the images that the model takes.
    crops_per_iteration
        Crops per step, K.
    box_size
        (low, high), fractions of the image. The sides of crops are uniform in [high, 2 high - low],
        as Horama's code draws them: 0.25 to 0.30 for the default, not 0.20 to 0.25.
    device
        Where to run; the model has to be there. Default: a GPU if there is one, else the CPU.
    seed
        Any integer: draws from generators of the run's own. Default: torch's global generators, so
        that `torch.manual_seed` decides, and Horama draws the same numbers.
    resampling
        "horama": ``roi_align`` at twice the size and a bicubic reduction; "fvfast": bilinear
        samples by a kernel, with boxes and noise of the same distributions.
    progress
        Whether to show a progress bar.
    spectrum
        See `init_maco_buffer`.

    Returns
    -------
    image
        (3, H, W), float32, in values_range, without a graph, on the device.
    transparency
        (3, H, W): sum over the steps of the absolute gradient of the image.

    Raises
    ------
    ValueError
        An argument outside those above, or a score that is not one number or does not depend on the
        crops.
    TypeError
        An argument of another type.
    RuntimeError
        The device cannot be used.

    Warns
    -----
    RuntimeWarning
        A score or gradient is not finite (the last finite image is returned), the gradient is zero,
        or the run was interrupted.

    References
    ----------
    Interface: Horama 0.3. Method: Fel et al., NeurIPS 2023, https://arxiv.org/abs/2306.06805.
    """
    recipe = Recipe.of("horama.maco", locals())
    with modes_of_a_run():
        magnitude = _magnitude(spectrum, *recipe.size)
        draws = TorchDraws(recipe.device, recipe.seed)
        start = parametrize(recipe, magnitude, draws.normal(*magnitude.shape))
        return draw_image(recipe, start, views_of(recipe, draws))
