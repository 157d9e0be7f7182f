"""From the optimised variables to an image: MaCo's phase, the Fourier buffer, and the colours.

Images are channels first: (C, H, W) or (N, C, H, W). Half spectra are those of a real image, with
the last dimension W // 2 + 1, as `torch.fft.rfft2` lays them out.

Source: T. Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude
Constrained Optimization" (NeurIPS 2023). Names, argument order and constants follow Xplique 2.0.
"""

import math
from collections.abc import Callable, Sequence

import torch

from fvfast._checks import check_images, check_size, check_values_range
from fvfast.ops.colors import recorrelate_colors as recorrelate_colors  # Xplique's place
from fvfast.ops.phase_to_image import phase_to_image
from fvfast.ops.philox import Purpose, draw_normal, random_words, to_uniform
from fvfast.ops.reference.phase import phase_to_image_reference, standardise
from fvfast.parametrizations.fourier import fft_2d_freq as fft_2d_freq
from fvfast.parametrizations.fourier import fft_image as fft_image
from fvfast.parametrizations.fourier import fft_to_rgb as fft_to_rgb
from fvfast.parametrizations.fourier import get_fft_scale as get_fft_scale
from fvfast.spectrum import Spectrum, SpectrumSource

Normalizer = str | Callable[[torch.Tensor], torch.Tensor]


def standardise_phase(phase: torch.Tensor) -> torch.Tensor:
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
    return standardise(phase)


def maco_image_parametrization(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    values_range: Sequence[float],
    width: int | None = None,
) -> torch.Tensor:
    """Image of a phase under a fixed magnitude (MaCo).

    The phase is standardised, the spectrum transformed back, the image standardised, its colours
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


def init_maco_buffer(
    image_shape: Sequence[int],
    dataset: SpectrumSource = None,
    std: float = 1.0,
    *,
    channels: int | None = None,
    seed: int = 0,
    images: Sequence[int] | None = None,
    distribution: str = "normal",
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitude and first phase of MaCo.

    Parameters
    ----------
    image_shape
        (H, W), each at least 2, even or odd.
    dataset
        Where the magnitude comes from. None: the closed form for natural images,
        `Spectrum.natural()`. A `Spectrum`, or anything that `Spectrum.from_images` takes (measured
        at the images' size for tensors and at ``image_shape`` for a folder).
    std
        Scale of the phase. Since the phase is standardised when it is used, only its gradient
        feels the scale.
    channels
        C. Default: the data set's number of channels, and 3 without a data set.
    seed
        The same seed gives the same phase on every device.
    images
        Identities of the images, integers in [0, 2^32): an image's phase is a function of its
        identity and the seed, not of the batch. Default: one image, identity 0, no batch dimension.
    distribution
        "normal" (Xplique, Horama): N(0, std^2). "uniform" (the MaCo paper): std * U(-pi, pi).
    device
        Where both are put.
    progress
        Show a progress bar while a data set is measured.

    Returns
    -------
    magnitude
        (C, H, W // 2 + 1), float32.
    phase
        (C, H, W // 2 + 1), or (len(images), C, H, W // 2 + 1) where ``images`` is given; float32.

    Raises
    ------
    ValueError
        If a size, the number of channels or the distribution is not one of the above.
    """
    if len(image_shape) != 2:
        raise ValueError(
            f"init_maco_buffer: image_shape is {tuple(image_shape)}; expected (height, width). "
            "The number of channels is the argument channels."
        )
    height, width = int(image_shape[0]), int(image_shape[1])
    check_size(height, width, "init_maco_buffer")
    spectrum = Spectrum.of(dataset, (height, width), channels or 3, progress)
    if channels is None:
        channels = spectrum.channels or 3
    magnitude = spectrum.magnitude(height, width, channels)

    identities = (0,) if images is None else images
    if distribution == "normal":
        phase = draw_normal(
            magnitude.shape, seed=seed, purpose=Purpose.PHASE, images=identities, device=device
        )
    elif distribution == "uniform":
        words = random_words(
            magnitude.numel(), seed=seed, purpose=Purpose.PHASE, images=identities, device=device
        )
        phase = ((to_uniform(words) * 2 - 1) * math.pi).unflatten(1, magnitude.shape)
    else:
        raise ValueError(
            f"init_maco_buffer: distribution is {distribution!r}; expected 'normal' or 'uniform'."
        )
    phase = phase * std
    return magnitude.to(device), phase[0] if images is None else phase


def _rescale(images: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Stretch each image's values to [low, high]; a constant image becomes ``low``."""
    images = images - images.amin((1, 2, 3), keepdim=True)
    largest = images.amax((1, 2, 3), keepdim=True)
    return images / torch.where(largest > 0, largest, 1) * (high - low) + low


def _normalize(
    images: torch.Tensor, normalizer: Normalizer, low: float, high: float, function: str
) -> torch.Tensor:
    if callable(normalizer):
        return normalizer(images)
    if normalizer == "sigmoid":
        return images.sigmoid()
    if normalizer == "clip":
        return images.clamp(low, high)
    raise ValueError(
        f"{function}: normalizer is {normalizer!r}; expected 'sigmoid', 'clip' or a function of "
        "the images."
    )


def to_valid_rgb(
    images: torch.Tensor,
    normalizer: Normalizer = "sigmoid",
    values_range: Sequence[float] = (0, 1),
) -> torch.Tensor:
    """Map unbounded decorrelated images to RGB images that use the whole range of values.

    The colours are recorrelated, the normaliser applied, and each image stretched so that its
    smallest and largest value are those of the range.

    Parameters
    ----------
    images
        (N, 3, H, W), floating point.
    normalizer
        "sigmoid", "clip" (to ``values_range``) or a function of the recorrelated images.
    values_range
        (low, high) of the result, such as (0, 1) or (-1, 1).

    Returns
    -------
    images
        (N, 3, H, W), values in [low, high]. An image of one value becomes ``low`` everywhere
        (Xplique 2.0: NaN).

    Raises
    ------
    ValueError
        For another shape, normaliser or range.
    """
    low, high = check_values_range(values_range, "to_valid_rgb")
    check_images(images, "to_valid_rgb")
    images = recorrelate_colors(images)
    return _rescale(_normalize(images, normalizer, low, high, "to_valid_rgb"), low, high)


def to_valid_grayscale(
    images: torch.Tensor,
    normalizer: Normalizer = "sigmoid",
    values_range: Sequence[float] = (0, 1),
) -> torch.Tensor:
    """Map unbounded images without colours to images that use the whole range of values.

    As `to_valid_rgb` without the recorrelation, for any number of channels.

    Parameters
    ----------
    images
        (N, C, H, W), floating point.
    normalizer
        "sigmoid", "clip" (to ``values_range``) or a function of the images.
    values_range
        (low, high) of the result.

    Returns
    -------
    images
        (N, C, H, W), values in [low, high]. An image of one value becomes ``low`` everywhere.

    Raises
    ------
    ValueError
        For another shape, normaliser or range.
    """
    low, high = check_values_range(values_range, "to_valid_grayscale")
    check_images(images, "to_valid_grayscale")
    return _rescale(_normalize(images, normalizer, low, high, "to_valid_grayscale"), low, high)
