"""From the gradient of the image to the next phase: the way back and the update as one operation.

On CUDA that saves a pass over memory, because the update finishes the gradient.
The parts are in the order of `fvfast.ops.noise`, without a gradient of its own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fvfast.ops._native import kernels_for
from fvfast.ops.phase_cuda import phase_gradient_cuda, phase_update_cuda, transform_fits
from fvfast.ops.phase_to_image import rounds_coarsely
from fvfast.ops.phase_update import Rates, fake_sums, nadam_rates
from fvfast.ops.reference_phase import STANDARDISATION_EPSILON

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "phase_ascent_(Tensor gradient, Tensor image, Tensor magnitude, Tensor(a!) phase, "
    "Tensor spectrum, Tensor statistics, float low, float high, Tensor(b!) exp_avg, "
    "Tensor(c!) exp_avg_sq, float beta1, float beta2, float gradient_rate, float momentum_rate, "
    "float correction, float epsilon) -> Tensor"
)


def _in_two_steps(
    gradient: torch.Tensor,
    image: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    spectrum: torch.Tensor,
    statistics: torch.Tensor,
    low: float,
    high: float,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *rates: float,
) -> torch.Tensor:
    slope = torch.ops.fvfast.phase_to_image_backward(
        gradient, magnitude, phase, image, spectrum, statistics, low, high
    )
    sums: torch.Tensor = torch.ops.fvfast.phase_update_(phase, slope, exp_avg, exp_avg_sq, *rates)
    return sums


def _native(
    gradient: torch.Tensor,
    image: torch.Tensor,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    spectrum: torch.Tensor,
    statistics: torch.Tensor,
    low: float,
    high: float,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *rates: float,
) -> torch.Tensor:
    kernels = kernels_for(phase.device)
    tensors = (image, magnitude, phase, statistics, exp_avg, exp_avg_sq)
    if (
        kernels is None
        or not transform_fits(kernels, image.shape, image.dtype)
        or not all(tensor.is_contiguous() for tensor in tensors)
    ):
        return _in_two_steps(
            gradient, image, magnitude, phase, spectrum, statistics, low, high,
            exp_avg, exp_avg_sq, *rates,
        )  # fmt: skip
    _, scratch = phase_gradient_cuda(
        kernels,
        gradient.contiguous(),
        magnitude,
        phase,
        image,
        statistics,
        (low, high),
        finish=False,
    )
    unfinished = (
        scratch.data_ptr(),
        statistics.data_ptr(),
        list(image.shape),
        STANDARDISATION_EPSILON,
    )
    return phase_update_cuda(kernels, phase, None, exp_avg, exp_avg_sq, Rates(*rates), unfinished)


def _fake(
    _gradient: Any, _image: Any, _magnitude: Any, phase: torch.Tensor, *_: Any
) -> torch.Tensor:
    return fake_sums(phase)


for _key in ("CPU", "CUDA"):
    _library.impl("phase_ascent_", _native, _key)
_library.impl("phase_ascent_", _in_two_steps, "CompositeExplicitAutograd")
torch.library.register_fake("fvfast::phase_ascent_", _fake, lib=_library)


class RenderedPhase(NamedTuple):
    """An image, and what the way back to its phase needs.

    Attributes
    ----------
    image
        (N, C, H, W).
    spectrum
        The half spectrum on the CPU; empty on CUDA.
    statistics
        (N, 4) float64: means and deviations of the phases and of the images before their colours.
    """

    image: torch.Tensor
    spectrum: torch.Tensor
    statistics: torch.Tensor


def can_ascend(phase: torch.Tensor, values_range: Sequence[float]) -> bool:
    """Tell whether `render_phase` and `phase_ascent_` serve a phase and a range.

    Elsewhere, on devices without kernels and for ranges that are far from 0 for their width,
    `fvfast.ops.phase_to_image` with autograd does.
    """
    return phase.device.type in ("cpu", "cuda") and not rounds_coarsely(*values_range)


def render_phase(
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    values_range: Sequence[float],
    width: int,
    *,
    phase_sums: torch.Tensor | None = None,
) -> RenderedPhase:
    """Image of a phase, for `phase_ascent_`: outside autograd.

    Parameters are those of `fvfast.ops.phase_to_image`, and trusted.
    """
    low, high = values_range
    with torch.no_grad():
        parts = torch.ops.fvfast.phase_to_image(magnitude, phase, low, high, width, phase_sums)
    return RenderedPhase(*parts)


def phase_ascent_(
    gradient: torch.Tensor,
    rendered: RenderedPhase,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    values_range: Sequence[float],
    **nadam: Any,
) -> torch.Tensor:
    """Take one step of NAdam in place, given the gradient of the image.

    Parameters
    ----------
    gradient
        (N, C, H, W), with respect to the image.
    rendered
        Of the phase as it is: see `render_phase`.
    magnitude, values_range
        What it was rendered with.
    phase, exp_avg, exp_avg_sq
        (N, C, H, W // 2 + 1), updated in place: see `fvfast.ops.phase_update_`.
    **nadam
        step, lr, betas, eps, momentum_decay, mu_product, maximize: see there.

    Returns
    -------
    phase_sums
        As there.
    """
    low, high = values_range
    rates = nadam_rates(**nadam)
    with torch.no_grad():
        sums: torch.Tensor = torch.ops.fvfast.phase_ascent_(
            gradient, rendered.image, magnitude, phase, rendered.spectrum, rendered.statistics,
            low, high, exp_avg, exp_avg_sq, *rates,
        )  # fmt: skip
        torch.autograd.graph.increment_version((phase, exp_avg, exp_avg_sq))
    return sums
