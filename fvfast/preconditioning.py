"""From the optimized variables to an image: Xplique's functions, where its users look for them.

Images are channels first: (C, H, W) or (N, C, H, W). Half spectra are those of a real image, with
the last dimension W // 2 + 1, as `torch.fft.rfft2` lays them out.

Source: T. Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude
Constrained Optimization" (NeurIPS 2023). Names, argument order and constants follow Xplique 2.0.
"""

from collections.abc import Sequence

import torch

from fvfast._shared.checks import check_values_range
from fvfast.ops.colors import recorrelate_colors as recorrelate_colors  # Xplique's place
from fvfast.ops.phase_to_image import phase_to_image
from fvfast.ops.reference.phase import phase_to_image_reference, standardize
from fvfast.parametrizations.fourier import fft_2d_freq as fft_2d_freq
from fvfast.parametrizations.fourier import fft_image as fft_image
from fvfast.parametrizations.fourier import fft_to_rgb as fft_to_rgb
from fvfast.parametrizations.fourier import get_fft_scale as get_fft_scale
from fvfast.parametrizations.phase import init_maco_buffer as init_maco_buffer
from fvfast.parametrizations.pixels import to_valid_grayscale as to_valid_grayscale
from fvfast.parametrizations.pixels import to_valid_rgb as to_valid_rgb


def standardize_phase(phase: torch.Tensor) -> torch.Tensor:
    """Give the phase mean 0 and population standard deviation 1 over all its channels jointly.

    Parameters
    ----------
    phase
        (..., C, H, W // 2 + 1), radians. Leading dimensions are images, each with its own
        statistics.

    Returns
    -------
    phase
        Same shape and dtype. A constant phase becomes 0.
    """
    return standardize(phase)


def maco_image_parametrization(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    values_range: Sequence[float],
    width: int | None = None,
) -> torch.Tensor:
    """Image of a phase under a fixed magnitude (MaCo).

    The phase is standardized, the spectrum transformed back, the image standardized, its colors
    recorrelated where it has 3 channels, and squeezed into ``values_range`` by a sigmoid.

    Parameters
    ----------
    magnitude
        (C, H, W // 2 + 1), the constrained magnitude: see `fvfast.spectrum.Spectrum`.
    phase
        (C, H, W // 2 + 1), or (N, C, H, W // 2 + 1) for N independent images. Radians.
    values_range
        (low, high) of the image's values, such as (0, 1) or (-1, 1).
    width
        W; needed for odd widths. Default: the even width 2 * (W_half - 1).

    Returns
    -------
    image
        (C, H, W) or (N, C, H, W), values strictly between low and high (up to rounding), dtype of
        ``magnitude`` and ``phase``, float32 at least.

    Raises
    ------
    ValueError
        If the shapes of ``magnitude`` and ``phase`` do not fit, if ``width`` does not fit the half
        spectrum, or if ``values_range`` is not (low, high).

    Notes
    -----
    Equals Xplique 2.0's function of that name, to the rounding, where Xplique's runs (even widths,
    one image).
    """
    low, high = check_values_range(values_range, "maco_image_parametrization")
    if phase.ndim not in (3, 4) or magnitude.shape != phase.shape[-3:]:
        raise ValueError(
            "maco_image_parametrization: magnitude and phase have shapes "
            f"{tuple(magnitude.shape)} and {tuple(phase.shape)}; expected (C, H, W // 2 + 1) for "
            "both, or a phase (N, C, H, W // 2 + 1). init_maco_buffer makes a fitting pair."
        )
    half = phase.shape[-1]
    width = 2 * (half - 1) if width is None else width
    if width // 2 + 1 != half or width < 1:
        raise ValueError(
            f"maco_image_parametrization: width is {width} and the half spectrum has {half} "
            f"columns; expected width {2 * (half - 1)} or {2 * half - 1}."
        )
    # There is no FFT in half precision on the CPU, nor for every size on CUDA.
    dtype = torch.promote_types(torch.promote_types(magnitude.dtype, phase.dtype), torch.float32)
    magnitude, phase = magnitude.to(dtype), phase.to(dtype)
    if torch.is_grad_enabled() and magnitude.requires_grad:
        return phase_to_image_reference(magnitude, phase, low, high, width)
    if phase.ndim == 4:
        return phase_to_image(magnitude, phase, (low, high), width)
    return phase_to_image(magnitude, phase[None], (low, high), width)[0]
