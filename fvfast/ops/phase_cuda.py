"""Phase to image and back on CUDA: the calls of the kernels.

The transforms run inside the kernels where the height and the width are made of small primes and
fit the shared memory of the device. For other sizes torch does the transforms, between versions of
the kernels without them.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._kernels import Kernels
from fvfast.ops._memory import buffer
from fvfast.ops._tables import table_argument
from fvfast.ops.colors import COLOR_CORRELATION
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON

Numbers = tuple[float, float]
Unfinished = tuple[tuple[int, int], tuple[int, int], list[int], float]


def colors_of(channels: int) -> Sequence[Sequence[float]]:
    """Return the matrix that mixes the channels of an image; empty where they stay apart."""
    return COLOR_CORRELATION if channels == 3 else ()


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """Return the complex type of two numbers of a type."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def _common(sizes: Sequence[int], dtype: torch.dtype) -> dict[str, Any]:
    return {"sizes": list(sizes), "dtype": str(dtype).removeprefix("torch.")}


def _range_and_colors(channels: int, values_range: Numbers) -> dict[str, Any]:
    return {"low": values_range[0], "high": values_range[1], "colors": colors_of(channels)}


def transform_fits(kernels: Kernels, sizes: Sequence[int], dtype: torch.dtype) -> bool:
    """Tell whether the transforms of images (N, C, H, W) run inside the kernels."""
    if kernels.target is None:
        return False
    fits: bool = kernels.module.transform_fits(
        **_common(sizes, dtype), has_colors=bool(colors_of(sizes[1])), device=kernels.target[0]
    )
    return fits


def _scratch(count: int, like: torch.Tensor) -> torch.Tensor:
    return like.new_empty(count, dtype=torch.uint8)


def phase_to_image_cuda(
    kernels: Kernels,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    values_range: Numbers,
    width: int,
    phase_sums: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image of a phase.

    Parameters
    ----------
    kernels
        Of the device of the tensors.
    magnitude, phase, phase_sums
        Contiguous; see `fvfast.ops.phase_to_image`. The sums are computed if None.
    values_range, width
        See there.

    Returns
    -------
    image
        (N, C, H, W).
    statistics
        (N, 4) float64: means and deviations of the phases and of their images before the colors.
    """
    images, channels, height, _ = phase.shape
    sizes = (images, channels, height, width)
    common = _common(sizes, phase.dtype)
    colors = _range_and_colors(channels, values_range)
    image = phase.new_empty(sizes)
    statistics = phase.new_empty(images, 4, dtype=torch.float64)
    if images == 0:
        return image, statistics
    scratch = _scratch(kernels.module.phase_image_scratch(**common), phase)
    spectral = {
        "magnitude": buffer(magnitude),
        "phase": buffer(phase),
        "phase_sums": buffer(phase_sums),
        "sum_parts": 0 if phase_sums is None else phase_sums.shape[1],
        "statistics": buffer(statistics),
        "scratch": buffer(scratch),
        "epsilon": STANDARDIZATION_EPSILON,
        "target": kernels.target,
    }
    if transform_fits(kernels, sizes, phase.dtype):
        kernels.module.phase_image(image=buffer(image), **spectral, **common, **colors)
        return image, statistics
    spectrum = phase.new_empty(phase.shape, dtype=complex_of(phase.dtype))
    kernels.module.cuda_phase_spectrum(spectrum=buffer(spectrum), **spectral, **common)
    image = torch.fft.irfft2(spectrum, s=(height, width)).contiguous()
    kernels.module.spectrum_image(
        image=buffer(image),
        statistics=buffer(statistics),
        epsilon=STANDARDIZATION_EPSILON,
        target=kernels.target,
        **common,
        **colors,
    )
    return image, statistics


def phase_gradient_cuda(
    kernels: Kernels,
    gradient: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    image: torch.Tensor,
    statistics: torch.Tensor,
    values_range: Numbers,
    *,
    finish: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient with respect to the phase from that with respect to the image.

    Parameters
    ----------
    kernels
        Of the device of the tensors.
    gradient, image
        (N, C, H, W), contiguous.
    magnitude, phase, statistics, values_range
        Of the image: see `phase_to_image_cuda`. Contiguous.
    finish
        False leaves the end to `fvfast.ops.phase_update_`. Only where the transform fits.

    Returns
    -------
    gradient
        (N, C, H, W // 2 + 1); empty where it is not finished.
    scratch
        What the update needs to finish it.
    """
    common = _common(image.shape, image.dtype)
    channels = image.shape[1]
    colors = _range_and_colors(channels, values_range)
    out = phase.new_empty(phase.shape if finish else 0)
    scratch = _scratch(kernels.module.phase_image_gradient_scratch(**common), phase)
    if image.shape[0] == 0:
        return out, scratch
    spectral = {
        "magnitude": buffer(magnitude),
        "phase": buffer(phase),
        "statistics": buffer(statistics),
        "out": buffer(out),
        "scratch": buffer(scratch),
        "epsilon": STANDARDIZATION_EPSILON,
        "target": kernels.target,
    }
    pixels = {"gradient": buffer(gradient), "image": buffer(image)}
    if transform_fits(kernels, image.shape, image.dtype):
        kernels.module.phase_image_gradient(**pixels, **spectral, **common, **colors, finish=finish)
        return out, scratch
    if not finish:
        raise ValueError(
            f"phase_gradient_cuda(): finish: expected True, got False for images of "
            f"{tuple(image.shape)}, whose transform does not fit the kernels"
        )
    before_colors = torch.empty_like(image)
    kernels.module.spectrum_image_gradient(
        **pixels, out=buffer(before_colors), target=kernels.target, **common, **colors
    )
    transform = torch.fft.rfft2(before_colors).contiguous()
    kernels.module.cuda_phase_gradient(transform=buffer(transform), **spectral, **common)
    return out, scratch


def phase_update_cuda(
    kernels: Kernels,
    phase: torch.Tensor,
    gradient: torch.Tensor | None,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    rates: Any,
    unfinished: Unfinished | None = None,
    *,
    out: torch.Tensor | None = None,
    sums: torch.Tensor | None = None,
    gate: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """One step of NAdam.

    Parameters
    ----------
    kernels
        Of the device of the tensors.
    phase, gradient, exp_avg, exp_avg_sq
        (N, ...), contiguous. No gradient where it is not finished.
    rates
        `fvfast.ops.nadam.Rates` of the step.
    unfinished
        Where the gradient is not finished: its scratch memory, the statistics, (N, C, H, W), and
        the epsilon that was added to deviations.
    out
        Where the new phase goes; in place of the old one if None.
    sums
        Where the sums go; new memory if None.
    gate
        Scores, flags and running images (N,), which say which images are updated; None: all.

    Returns
    -------
    phase_sums
        (N, P, 2) float64: sums of parts of the new phase, and of its squares.
    """
    images = phase.shape[0]
    if sums is None:
        sums = phase.new_empty(images, kernels.module.UPDATE_PARTS, 2, dtype=torch.float64)
    scores, flags, running = (None, None, None) if gate is None else gate
    if rates.rates is not None and rates.rates.stride(1) != 1:
        rates = rates._replace(rates=rates.rates.contiguous())
    kernels.module.phase_update(
        phase=buffer(phase),
        out=buffer(out),
        gradient=buffer(gradient),
        exp_avg=buffer(exp_avg),
        exp_avg_sq=buffer(exp_avg_sq),
        sums=buffer(sums),
        scratch=buffer(None),
        scores=buffer(scores),
        flags=buffer(flags),
        running=buffer(running),
        dtype=str(phase.dtype).removeprefix("torch."),
        sizes=(images, math.prod(phase.shape[1:])),
        unfinished=unfinished,
        target=kernels.target,
        **update_arguments(rates),
    )
    return sums


def update_arguments(rates: Any) -> dict[str, Any]:
    """Return `fvfast.ops.nadam.Rates` as the native module takes them."""
    numbers: dict[str, Any] = rates._asdict()
    betas = (numbers.pop("beta1"), numbers.pop("beta2"))
    table, counter = numbers.pop("rates"), numbers.pop("counter")
    return {**numbers, "betas": betas, "rates": table_argument(table), "counter": buffer(counter)}
