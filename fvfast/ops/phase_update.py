"""One step of NAdam in one pass, which also returns the sums that standardize the new phase.

The parts are in the order of `fvfast.ops.noise`.
"""

import math
from typing import Any

import torch

from fvfast.ops._checks import (
    REAL,
    check_alike,
    check_counter,
    check_decay,
    check_finite,
    check_scale,
    check_sum,
    check_type,
    reject,
    require_tensor,
)
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer, check_memory
from fvfast.ops._register import register
from fvfast.ops._tables import check_table
from fvfast.ops.nadam import Rates, rates_of_step
from fvfast.ops.phase_cuda import phase_update_cuda, update_arguments
from fvfast.ops.reference.phase import phase_update_reference_

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "phase_update_(Tensor(a!) phase, Tensor gradient, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, "
    "float beta1, float beta2, float gradient_rate, float momentum_rate, float correction, "
    "float epsilon, Tensor? rates, Tensor? counter) -> Tensor"
)
_COLUMNS = 3  # of a table of rates


def sum_scratch(module: Any, images: int) -> torch.Tensor:
    """Make the memory in which the kernels of the CPU add up the parts of an image."""
    sizes = (images, module.SUM_PARTS, module.SUMS_PER_PART)
    return torch.empty(sizes, dtype=torch.float64, device="cpu")


def update_reference(
    phase: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *rates: Any,
) -> torch.Tensor:
    """Do what the operation does, in PyTorch, without its checks."""
    numbers = Rates(*rates).numbers()
    return phase_update_reference_(phase, gradient, exp_avg, exp_avg_sq, **numbers)


def update(
    phase: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *rates: Any,
) -> torch.Tensor:
    """Do what the operation does, without its checks."""
    kernels = kernels_for(phase.device)
    in_place = (phase, exp_avg, exp_avg_sq)
    if kernels is None or not all(tensor.is_contiguous() for tensor in in_place):
        return update_reference(phase, gradient, exp_avg, exp_avg_sq, *rates)
    gradient = gradient.contiguous()
    numbers = Rates(*rates)
    if kernels.target is not None:
        return phase_update_cuda(kernels, phase, gradient, exp_avg, exp_avg_sq, numbers)
    module = kernels.module
    images = phase.shape[0]
    sums = torch.empty(images, 1, 2, dtype=torch.float64, device="cpu")
    scratch = sum_scratch(module, images)
    module.phase_update(
        phase=buffer(phase),
        out=buffer(None),
        gradient=buffer(gradient),
        exp_avg=buffer(exp_avg),
        exp_avg_sq=buffer(exp_avg_sq),
        sums=buffer(sums),
        scratch=buffer(scratch),
        **dict.fromkeys(("scores", "flags", "running"), buffer(None)),
        dtype=str(phase.dtype).removeprefix("torch."),
        sizes=(images, math.prod(phase.shape[1:])),
        unfinished=None,
        target=None,
        **update_arguments(numbers.known()),
    )
    return sums


def sum_parts(device: torch.device) -> int:
    """Return in how many parts the kernels of a device make the sums of a phase."""
    kernels = kernels_for(device)
    if kernels is None or kernels.target is None:
        return 1
    parts: int = kernels.module.UPDATE_PARTS
    return parts


def fake_sums(phase: torch.Tensor, *_: Any) -> torch.Tensor:
    """Return sums of the shape that the device of a phase makes."""
    parts = sum_parts(phase.device) if phase.is_contiguous() else 1
    return phase.new_empty(phase.shape[0], parts, 2, dtype=torch.float64)


def check_update(
    operation: str,
    phase: torch.Tensor,
    others: dict[str, torch.Tensor],
    rates: Rates,
) -> None:
    """Raise TypeError or ValueError unless a phase can take a step.

    Parameters
    ----------
    operation
        For messages.
    phase
        (N, ...), whose type was checked.
    others
        What must have its shape, its type and its device, under the names of messages.
    rates
        Of the step.
    """
    for argument, tensor in others.items():
        check_alike(operation, argument, tensor, phase.shape, phase.dtype, phase.device)
    check_decay(operation, "beta1", rates.beta1)
    check_decay(operation, "beta2", rates.beta2)
    check_finite(operation, "gradient_rate", rates.gradient_rate)
    check_finite(operation, "momentum_rate", rates.momentum_rate)
    if not 0 < rates.correction < math.inf:
        reject(operation, "correction", "a finite number > 0", rates.correction)
    check_scale(operation, "epsilon", rates.epsilon)
    check_counter(operation, rates.counter, phase.device)
    check_table(operation, "rates", rates.rates, rates.counter, phase.device, _COLUMNS)
    if rates.counter is not None and rates.rates is None:
        reject(operation, "rates", "a table, of which the counter says the row", "none")


def check_rate_values(operation: str, rates: Rates) -> None:
    """Raise ValueError unless what tensors hold is in range, where it can be read: on the CPU."""
    if rates.rates is None or rates.rates.device.type != "cpu":
        return
    check_sum(operation, 0, rates.counter)
    known = rates.known()
    for value in (known.gradient_rate, known.momentum_rate):
        check_finite(operation, "rates", value)
    if not 0 < known.correction < math.inf:
        reject(operation, "rates", "finite numbers > 0 in the last column", known.correction)


def _check(
    operation: str,
    phase: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *rates: Any,
) -> None:
    check_type(operation, "phase", phase, REAL)
    if phase.ndim < 2 or 0 in phase.shape[1:]:
        reject(operation, "phase", "(N, ...)", f"a tensor {tuple(phase.shape)}")
    others = {"gradient": gradient, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    check_update(operation, phase, others, Rates(*rates))


def _check_memory(
    operation: str,
    phase: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *rates: Any,
) -> None:
    written = [("phase", phase), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)]
    check_memory(operation, written, [("gradient", gradient), *Rates(*rates).tensors()])
    check_rate_values(operation, Rates(*rates))


register(
    _library,
    "phase_update_",
    check=_check,
    check_memory=_check_memory,
    kernel=update,
    reference=update_reference,
    fake=fake_sums,
)


def _check_numbers(
    step: int | torch.Tensor, numbers: dict[str, float], betas: tuple[float, float]
) -> None:
    """Check what the rates of a step are computed from; the operation checks the rest."""
    if not isinstance(step, torch.Tensor) and step < 1:
        reject("phase_update_", "step", "an integer >= 1", step)
    if len(betas) != 2:
        reject("phase_update_", "betas", "two numbers in [0, 1)", betas)
    for beta in betas:
        check_decay("phase_update_", "betas", beta)
    for argument, value in numbers.items():
        check_scale("phase_update_", argument, value)


def phase_update_(
    phase: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    step: int | torch.Tensor,
    lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-7,
    momentum_decay: float | None = None,
    mu_product: float | None = None,
    maximize: bool | None = None,
    rates: torch.Tensor | None = None,
) -> torch.Tensor:
    """Take one step of NAdam in place, as ``torch.optim.NAdam`` does to rounding.

    Parameters
    ----------
    phase
        (N, ...), float32 or float64. Contiguous memory has a kernel.
    gradient
        Same shape, type and device.
    exp_avg, exp_avg_sq
        The optimizer's averages of the gradient and of its square, 0 before the first step; updated
        in place.
    step
        Counts from 1. With `rates`, an int64 tensor of one element on the device of the phase,
        which counts from 0.
    lr, betas, eps, momentum_decay
        Of NAdam. The defaults are those of `fvfast.parametrizations.optimizers.keras_nadam`: 1,
        (0.9, 0.999), 1e-7 and 1.
    mu_product
        Product of `fvfast.ops.nadam.nadam_momentum` of the steps before this one, 1 before the
        first. Default: computed.
    maximize
        Go up the gradient, which is the default; down otherwise.
    rates
        In place of `lr`, `momentum_decay`, `mu_product` and `maximize`, a float64 tensor (rows, 3)
        on the device of the phase: see `fvfast.ops.nadam.nadam_table`. The step is that of row
        min(step, rows - 1), to the bit as if it were given by numbers. It is read when the kernel
        runs, so that a captured CUDA graph takes the next step in each replay. On a GPU its numbers
        are not checked.

    Returns
    -------
    phase_sums
        (N, P, 2) float64: P numbers that add up to the sum of each new phase, and to that of its
        squares, for `phase_to_image`. P depends on the device alone. One of them is not
        finite exactly if the new phase is not.

    Raises
    ------
    TypeError
        If an argument is not a tensor of a supported type, or tensors differ in it.
    ValueError
        If tensors do not fit each other, share memory, or a number is out of range.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    """
    tensors = {"phase": phase, "gradient": gradient, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for argument, tensor in tensors.items():
        require_tensor("phase_update_", argument, tensor)
    scales = {"lr": lr, "momentum_decay": momentum_decay, "mu_product": mu_product}
    given: dict[str, Any] = {name: value for name, value in scales.items() if value is not None}
    _check_numbers(step, {**given, "eps": eps}, betas)
    if maximize is not None:
        given["maximize"] = maximize
    numbers = rates_of_step("phase_update_", step=step, rates=rates, betas=betas, eps=eps, **given)
    with torch.no_grad():
        sums: torch.Tensor = torch.ops.fvfast.phase_update_(
            phase, gradient, exp_avg, exp_avg_sq, *numbers
        )
        if not torch.compiler.is_compiling():
            # Autograd does not see that kernels write, and must not go on with the old values.
            for written in (phase, exp_avg, exp_avg_sq):  # torch 2.4 takes one
                torch.autograd.graph.increment_version(written)
    return sums
