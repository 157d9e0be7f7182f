"""From the gradient of the image to the next phase: backward pass and update in one operation.

On CUDA that saves a pass over memory, because the update finishes the gradient.
The parts are in the order of `fvfast.ops.noise`, without a gradient of its own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.nadam import Rates, rates_of_step
from fvfast.ops.phase_cuda import phase_gradient_cuda, phase_update_cuda, transform_fits
from fvfast.ops.phase_to_image import (
    backward,
    backward_reference,
    check_backward,
    rounds_coarsely,
)
from fvfast.ops.phase_update import (
    check_rate_values,
    check_update,
    fake_sums,
    update,
    update_reference,
)
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "phase_ascent_(Tensor gradient, Tensor image, Tensor magnitude, Tensor(a!) phase, "
    "Tensor spectrum, Tensor statistics, float low, float high, Tensor(b!) exp_avg, "
    "Tensor(c!) exp_avg_sq, float beta1, float beta2, float gradient_rate, float momentum_rate, "
    "float correction, float epsilon, Tensor? rates, Tensor? counter) -> Tensor"
)


class _Step(NamedTuple):
    """The arguments, as in the schema, but for the rates, which follow."""

    gradient: torch.Tensor
    image: torch.Tensor
    magnitude: torch.Tensor
    phase: torch.Tensor
    spectrum: torch.Tensor
    statistics: torch.Tensor
    low: float
    high: float
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor

    def backward_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the operation `phase_to_image_backward`."""
        tensors = (self.gradient, self.magnitude, self.phase, self.image, self.spectrum)
        return *tensors, self.statistics, self.low, self.high


def _split(arguments: tuple[Any, ...]) -> tuple[_Step, Rates]:
    tensors = len(_Step._fields)
    return _Step(*arguments[:tensors]), Rates(*arguments[tensors:])


def _reference(*arguments: Any) -> torch.Tensor:
    step, rates = _split(arguments)
    phase_gradient = backward_reference(*step.backward_arguments())
    return update_reference(step.phase, phase_gradient, step.exp_avg, step.exp_avg_sq, *rates)


def _native(*arguments: Any) -> torch.Tensor:
    step, rates = _split(arguments)
    kernels = kernels_for(step.phase.device)
    tensors = (step.image, step.magnitude, step.phase, step.statistics, *step[-2:])
    if (
        kernels is None
        or not transform_fits(kernels, step.image.shape, step.image.dtype)
        or not all(tensor.is_contiguous() for tensor in tensors)
    ):
        phase_gradient = backward(*step.backward_arguments())
        return update(step.phase, phase_gradient, step.exp_avg, step.exp_avg_sq, *rates)
    _, scratch = phase_gradient_cuda(
        kernels,
        step.gradient.contiguous(),
        step.magnitude,
        step.phase,
        step.image,
        step.statistics,
        (step.low, step.high),
        finish=False,
    )
    unfinished = (
        buffer(scratch),
        buffer(step.statistics),
        list(step.image.shape),
        STANDARDIZATION_EPSILON,
    )
    return phase_update_cuda(
        kernels, step.phase, None, step.exp_avg, step.exp_avg_sq, rates, unfinished
    )


def _fake(
    _gradient: Any, _image: Any, _magnitude: Any, phase: torch.Tensor, *_: Any
) -> torch.Tensor:
    return fake_sums(phase)


def _check(operation: str, *arguments: Any) -> None:
    step, rates = _split(arguments)
    check_backward(operation, *step.backward_arguments())
    averages = {"exp_avg": step.exp_avg, "exp_avg_sq": step.exp_avg_sq}
    check_update(operation, step.phase, averages, rates)


def _check_memory(operation: str, *arguments: Any) -> None:
    step, rates = _split(arguments)
    written = ("phase", "exp_avg", "exp_avg_sq")
    read = ("gradient", "image", "magnitude", "spectrum", "statistics")
    check_memory(
        operation,
        [(name, getattr(step, name)) for name in written],
        [*((name, getattr(step, name)) for name in read), *rates.tensors()],
    )
    check_rate_values(operation, rates)


register(
    _library,
    "phase_ascent_",
    check=_check,
    check_memory=_check_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)


class RenderedPhase(NamedTuple):
    """An image, and what its backward pass to the phase needs.

    Attributes
    ----------
    image
        (N, C, H, W).
    spectrum
        The half spectrum on the CPU; empty on CUDA.
    statistics
        (N, 4) float64: means and deviations of the phases and of the images before their colors.
    """

    image: torch.Tensor
    spectrum: torch.Tensor
    statistics: torch.Tensor


def can_ascend(phase: torch.Tensor, values_range: Sequence[float]) -> bool:
    """Tell whether `render_phase` and `phase_ascent_` serve a phase and a range.

    They do not on devices without kernels, nor for ranges that are far from 0 compared with their
    width: there, use `fvfast.ops.phase_to_image` with autograd.
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

    Parameters are those of `fvfast.ops.phase_to_image`.
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
        step, lr, betas, eps, momentum_decay, mu_product, maximize, rates: see there.

    Returns
    -------
    phase_sums
        As there.
    """
    low, high = values_range
    rates = rates_of_step("phase_ascent_", **nadam)
    with torch.no_grad():
        sums: torch.Tensor = torch.ops.fvfast.phase_ascent_(
            gradient, rendered.image, magnitude, phase, rendered.spectrum, rendered.statistics,
            low, high, exp_avg, exp_avg_sq, *rates,
        )  # fmt: skip
        for written in (phase, exp_avg, exp_avg_sq):  # torch 2.4 takes one
            torch.autograd.graph.increment_version(written)
    return sums
