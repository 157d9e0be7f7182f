"""The end of a step: which images have ended, their scores, the boxes of the next step.

The parts are in the order of `fvfast.ops.noise`, without a gradient.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from fvfast.ops._kernels import Kernels, kernels_for
from fvfast.ops._memory import buffer
from fvfast.ops._register import register
from fvfast.ops._step_end_arguments import (
    StepEndArguments,
    check_step_end,
    check_step_end_memory,
)
from fvfast.ops._tables import table_argument
from fvfast.ops.boxes import BoxDistribution, draw
from fvfast.ops.gradient_flags import GRADIENT_NOT_ZERO, may_be_updated
from fvfast.ops.phase_step import sums_of
from fvfast.ops.philox import signed

_library = torch.library.Library("fvfast", "FRAGMENT")
_library.define(
    "end_step_(Tensor scores, Tensor(a!) flags, Tensor phase, Tensor(b!) next_phase, "
    "Tensor(c!) sums, Tensor(d!) running, Tensor(e!) ended_in, Tensor(f!) by_update, "
    "Tensor(g!) has_gradient, Tensor(h!) recent_scores, Tensor(i!) counter, SymInt patience, "
    "Tensor(j!)? boxes, str shape, float spread, float center_spread, float smallest, "
    "float largest, SymInt seed, Tensor? box_size_table, Tensor? identity_table) -> ()"
)


def _reference(*arguments: Any) -> None:
    end = StepEndArguments(*arguments)
    step = end.counter.reshape(())
    scored = may_be_updated(end.running, end.scores, end.flags)
    runs = scored & end.sums.isfinite().flatten(1).all(1)
    spoiled = scored & ~runs
    end.ended_in.copy_(torch.where(end.running & ~runs, step, end.ended_in))
    end.by_update.logical_or_(spoiled)
    has_gradient = end.flags.bitwise_and(GRADIENT_NOT_ZERO).ne(0)
    end.has_gradient.logical_or_(has_gradient & (step < end.patience))
    column = end.scores.where(scored, math.nan).unsqueeze(1)
    place = step.remainder(end.recent_scores.shape[1])
    end.recent_scores.index_copy_(1, place.view(1), column)
    wide = spoiled.view(-1, *[1] * (end.phase.ndim - 1))
    end.next_phase.copy_(torch.where(wide, end.phase, end.next_phase))
    before = sums_of(end.phase, end.sums.shape[1])
    end.sums.copy_(torch.where(spoiled.view(-1, 1, 1), before, end.sums))
    end.running.copy_(runs)
    end.flags.zero_()
    end.counter.add_(1)
    if end.boxes is not None:
        end.boxes.copy_(_next_boxes(end, end.boxes))


def _next_boxes(end: StepEndArguments, boxes: torch.Tensor) -> torch.Tensor:
    return draw(
        0.0, boxes.shape[1], end.shape, end.spread, end.center_spread, end.smallest, end.largest,
        end.seed, [], 0, end.counter, end.box_size_table, end.identity_table, boxes.device,
    )  # fmt: skip


def _native(*arguments: Any) -> None:
    end = StepEndArguments(*arguments)
    kernels = kernels_for(end.phase.device)
    if kernels is None or kernels.target is None or not end.is_plain() or not len(end.phase):
        _reference(*arguments)
        return
    _end_on_cuda(kernels, end)


def _end_on_cuda(kernels: Kernels, end: StepEndArguments) -> None:
    numbers = {"patience", "shape", "spread", "center_spread", "smallest", "largest"}
    tables = {"box_size_table", "identity_table"}
    given = end._asdict()
    tensors = given.keys() - numbers - tables - {"seed"}
    kernels.module.end_step(
        **{name: buffer(given[name]) for name in tensors},
        **{name: given[name] for name in numbers},
        **{name: table_argument(given[name]) for name in tables},
        seed=end.seed % 2**64,
        sum_parts=end.sums.shape[1],
        recent=end.recent_scores.shape[1],
        dtype=str(end.phase.dtype).removeprefix("torch."),
        sizes=(end.phase.shape[0], math.prod(end.phase.shape[1:])),
        crops=0 if end.boxes is None else end.boxes.shape[1],
        target=kernels.target,
    )


def _fake(*_: Any) -> None:
    pass


register(
    _library,
    "end_step_",
    check=check_step_end,
    check_memory=check_step_end_memory,
    kernel=_native,
    reference=_reference,
    fake=_fake,
)


@dataclasses.dataclass(frozen=True)
class NextBoxes:
    """The boxes that each step draws for the next one.

    Attributes
    ----------
    boxes
        (N, K, 4) float32, where they are put.
    box_size
        Mean sides: float64 (rows,), of which row min(step, rows - 1) counts.
    identities
        int64 (N,).
    seed
        Any integer.
    distribution
        How they scatter.
    """

    boxes: torch.Tensor
    box_size: torch.Tensor
    identities: torch.Tensor
    seed: int
    distribution: BoxDistribution


def end_step_(
    scores: torch.Tensor,
    flags: torch.Tensor,
    phase: torch.Tensor,
    next_phase: torch.Tensor,
    sums: torch.Tensor,
    *,
    running: torch.Tensor,
    ended_in: torch.Tensor,
    by_update: torch.Tensor,
    has_gradient: torch.Tensor,
    recent_scores: torch.Tensor,
    step: torch.Tensor,
    patience: int,
    boxes: NextBoxes | None = None,
) -> None:
    """Write down how a step went, after `fvfast.ops.phase_step.phase_step_`; begin the next one.

    An image that runs ends if its score, its gradient or its next phase is not finite. In the last
    case it gets the phase from before the update back. Contiguous memory has a kernel, of one
    block, since there is little to do.

    Parameters
    ----------
    scores
        (N,) float32, of this step.
    flags
        (N,) int32, of the gradients: see `fvfast.ops.gradient_flags`. 0 in the end.
    phase, next_phase
        (N, ...), before and after the update.
    sums
        (N, P, 2) float64, of the next phase and of its squares.
    running
        bool (N,): which images have not ended.
    ended_in
        int64 (N,): becomes the step in which an image has ended.
    by_update
        bool (N,): false while an image runs; becomes true if it ended because of its next phase.
    has_gradient
        bool (N,): becomes true in the first `patience` steps if a gradient is not zero.
    recent_scores
        (N, R) float32: column step % R gets the scores, NaN for images that have ended.
    step
        int64, one element: this step, from 0; the next one in the end.
    patience
        Steps, see there.
    boxes
        What the next step draws; None: nothing.

    Raises
    ------
    TypeError
        If a tensor is of another type.
    ValueError
        If tensors do not fit each other, share memory, or a number is out of range.
    """
    drawn: Sequence[Any] = (None, *dataclasses.astuple(BoxDistribution()), 0, None, None)
    if boxes is not None:
        drawn = (
            boxes.boxes, *dataclasses.astuple(boxes.distribution), signed(boxes.seed),
            boxes.box_size, boxes.identities,
        )  # fmt: skip
    with torch.no_grad():
        torch.ops.fvfast.end_step_(
            scores, flags, phase, next_phase, sums, running, ended_in, by_update, has_gradient,
            recent_scores, step, patience, *drawn,
        )  # fmt: skip
        written = (flags, next_phase, sums, running, ended_in, by_update, has_gradient)
        for one in (*written, recent_scores, step):  # torch 2.4 takes one
            torch.autograd.graph.increment_version(one)
        if boxes is not None:
            torch.autograd.graph.increment_version(boxes.boxes)
