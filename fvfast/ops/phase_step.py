"""From the gradient of the image to the next phase in other memory, for images that go on.

What `fvfast.ops.phase_ascent` does in place; here the phase before the update stays as it was.
The parts are in the order of `fvfast.ops.noise`, without a gradient of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from fvfast.ops._checks import REAL, check_alike, check_per_image, check_type
from fvfast.ops._kernels import Kernels, kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops.gradient_flags import may_be_updated
from fvfast.ops.nadam import Rates, rates_of_step
from fvfast.ops.phase_ascent import RenderedPhase
from fvfast.ops.phase_cuda import phase_gradient_cuda, phase_update_cuda, transform_fits
from fvfast.ops.phase_to_image import backward, backward_reference, check_backward
from fvfast.ops.phase_update import (
    check_rate_values,
    check_update,
    sum_parts,
    update,
    update_reference,
)
from fvfast.ops.reference.phase import STANDARDIZATION_EPSILON

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "phase_step_(Tensor gradient, Tensor image, Tensor magnitude, Tensor phase, Tensor spectrum, "
    "Tensor statistics, float low, float high, Tensor(a!) next_phase, Tensor(b!) exp_avg, "
    "Tensor(c!) exp_avg_sq, Tensor(d!) sums, Tensor scores, Tensor flags, Tensor running, "
    "float beta1, float beta2, float gradient_rate, float momentum_rate, float correction, "
    "float epsilon, Tensor? rates, Tensor? counter) -> ()"
)
_WRITTEN = ("next_phase", "exp_avg", "exp_avg_sq", "sums")
_READ = (
    "gradient", "image", "magnitude", "phase", "spectrum", "statistics", "scores", "flags",
    "running",
)  # fmt: skip


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
    next_phase: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    sums: torch.Tensor
    scores: torch.Tensor
    flags: torch.Tensor
    running: torch.Tensor

    def backward_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the operation `phase_to_image_backward`."""
        tensors = (self.gradient, self.magnitude, self.phase, self.image, self.spectrum)
        return *tensors, self.statistics, self.low, self.high

    def is_plain(self) -> bool:
        """Whether a kernel reads and writes the memory as it is."""
        tensors = (self.image, self.magnitude, self.phase, self.statistics, *self[8:])
        return self.scores.dtype == torch.float32 and all(
            tensor.is_contiguous() for tensor in tensors
        )


def _split(arguments: tuple[Any, ...]) -> tuple[_Step, Rates]:
    tensors = len(_Step._fields)
    return _Step(*arguments[:tensors]), Rates(*arguments[tensors:])


def sums_of(phase: torch.Tensor, parts: int) -> torch.Tensor:
    """Return the sums of phases (N, ...) and of their squares: (N, parts, 2), all but one 0."""
    flat = phase.double().flatten(1)
    sums = flat.new_zeros(len(phase), parts, 2)
    sums[:, 0] = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)
    return sums


def _composed(
    step: _Step, rates: Rates, differentiate: Callable[..., Any], take: Callable[..., torch.Tensor]
) -> None:
    """Do what the operation does with others: the gradient, and an update in place."""
    old: tuple[torch.Tensor, ...] = (step.phase, step.exp_avg, step.exp_avg_sq)
    new = [tensor.clone(memory_format=torch.contiguous_format) for tensor in old]
    phase, exp_avg, exp_avg_sq = new
    phase_gradient = differentiate(*step.backward_arguments())
    sums = take(phase, phase_gradient, exp_avg, exp_avg_sq, *rates)
    updated = may_be_updated(step.running, step.scores, step.flags)
    wide, ends = (flags.view(-1, 1, 1, 1) for flags in (updated, step.running & ~updated))
    old = (torch.where(ends, step.next_phase, step.phase), *old[1:])
    written = (step.next_phase, step.exp_avg, step.exp_avg_sq)
    for out, one, other in zip(written, new, old, strict=True):
        out.copy_(torch.where(wide, one, other))
    kept = sums_of(old[0], step.sums.shape[1])
    step.sums.copy_(torch.where(updated.view(-1, 1, 1), sums, kept))


def _reference(*arguments: Any) -> None:
    _composed(*_split(arguments), backward_reference, update_reference)


def _native(*arguments: Any) -> None:
    step, rates = _split(arguments)
    kernels = kernels_for(step.phase.device)
    if kernels is None or kernels.target is None or not step.is_plain():
        _composed(step, rates, backward, update)
        return
    phase_gradient, scratch = _phase_gradient(kernels, step)
    unfinished = None
    if scratch is not None:  # which must live until the update has been called
        sizes = list(step.image.shape)
        unfinished = (buffer(scratch), buffer(step.statistics), sizes, STANDARDIZATION_EPSILON)
    phase_update_cuda(
        kernels, step.phase, phase_gradient, step.exp_avg, step.exp_avg_sq, rates, unfinished,
        out=step.next_phase, sums=step.sums, gate=(step.scores, step.flags, step.running),
    )  # fmt: skip


def _phase_gradient(
    kernels: Kernels, step: _Step
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the gradient of the phase, or else the memory from which the update finishes it."""
    if not transform_fits(kernels, step.image.shape, step.image.dtype):
        return backward(*step.backward_arguments()).contiguous(), None
    _, scratch = phase_gradient_cuda(
        kernels, step.gradient.contiguous(), step.magnitude, step.phase, step.image,
        step.statistics, (step.low, step.high), finish=False,
    )  # fmt: skip
    return None, scratch


def _fake(*_: Any) -> None:
    pass


def _check(operation: str, *arguments: Any) -> None:
    step, rates = _split(arguments)
    check_backward(operation, *step.backward_arguments())
    like_phase = {name: getattr(step, name) for name in _WRITTEN[:3]}
    check_update(operation, step.phase, like_phase, rates)
    images, device = step.phase.shape[0], step.phase.device
    sums = torch.Size((images, sum_parts(device), 2))
    check_alike(operation, "sums", step.sums, sums, torch.float64, device)
    check_type(operation, "scores", step.scores, REAL)
    check_per_image(operation, "scores", step.scores, images, step.scores.dtype, device)
    check_per_image(operation, "flags", step.flags, images, torch.int32, device)
    check_per_image(operation, "running", step.running, images, torch.bool, device)


def _check_memory(operation: str, *arguments: Any) -> None:
    step, rates = _split(arguments)
    check_memory(
        operation,
        [(name, getattr(step, name)) for name in _WRITTEN],
        [*((name, getattr(step, name)) for name in _READ), *rates.tensors()],
    )
    check_rate_values(operation, rates)


register(
    _library,
    "phase_step_",
    check=_check,
    check_memory=_check_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)


def new_sums(phase: torch.Tensor) -> torch.Tensor:
    """Make memory for the `sums` of `phase_step_`: (N, P, 2) float64."""
    return phase.new_zeros(len(phase), sum_parts(phase.device), 2, dtype=torch.float64)


def phase_step_(
    gradient: torch.Tensor,
    rendered: RenderedPhase,
    magnitude: torch.Tensor,
    phase: torch.Tensor,
    next_phase: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    values_range: Sequence[float],
    *,
    sums: torch.Tensor,
    scores: torch.Tensor,
    flags: torch.Tensor,
    running: torch.Tensor,
    **nadam: Any,
) -> None:
    """Take one step of NAdam with the images that go on, given the gradient of the images.

    An image is updated if it runs and its score and its gradient are finite. The others keep their
    averages. One that has ended keeps its phase. One that ends here gets its last good phase, which
    is not the present one, but that from before the last step. Contiguous memory, and scores of
    float32, have a kernel.

    Parameters
    ----------
    gradient
        (N, C, H, W), with respect to the image.
    rendered
        Of the phase: see `fvfast.ops.phase_ascent.render_phase`.
    magnitude, values_range
        What it was rendered with.
    phase
        (N, C, H, W // 2 + 1).
    next_phase
        Of the same shape, in memory apart from it: what the step makes of it. Before, the phase
        from before the last step.
    exp_avg, exp_avg_sq
        As `fvfast.ops.phase_update_` has them; updated in place.
    sums
        Of the next phase and of its squares, as that function returns them: see `new_sums`.
    scores
        (N,), of this step.
    flags
        (N,) int32, of the gradients: see `fvfast.ops.gradient_flags`.
    running
        (N,) bool.
    **nadam
        step, lr, betas, eps, momentum_decay, mu_product, maximize, rates: see `phase_update_`.

    Raises
    ------
    TypeError
        If a tensor is of another type.
    ValueError
        If tensors do not fit each other, share memory, or a number is out of range.
    """
    low, high = values_range
    rates = rates_of_step("phase_step_", **nadam)
    with torch.no_grad():
        torch.ops.fvfast.phase_step_(
            gradient, rendered.image, magnitude, phase, rendered.spectrum, rendered.statistics,
            low, high, next_phase, exp_avg, exp_avg_sq, sums, scores, flags, running, *rates,
        )  # fmt: skip
        for written in (next_phase, exp_avg, exp_avg_sq, sums):  # torch 2.4 takes one
            torch.autograd.graph.increment_version(written)
