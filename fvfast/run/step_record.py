"""What the steps of a run leave behind besides the images: which have ended, and the scores.

The record lies on the device, in memory that stays where it is, and no number that changes from
step to step comes from the host: a step that was recorded once, as a CUDA graph does, writes the
same record when it is replayed.
"""

import dataclasses
from collections import deque

import torch

from fvfast.ops.step_end import NextBoxes, end_step_

PATIENCE_WITHOUT_GRADIENT = 10
"""Steps without any gradient after which the user is told."""

LOOK_EVERY = 32
"""Steps between two looks of the host at the record on a GPU."""

RECENT = 2 * LOOK_EVERY
"""Steps whose scores the device keeps: the host fetches them in time, see `Looks`."""

RUNS = -1
"""The step in which an image has ended that has not."""


class StepRecord:
    """What steps leave behind, written by operations of the device alone.

    Parameters
    ----------
    count
        N images.
    device
        Where they are.

    Attributes
    ----------
    step
        int64 (): index of the step that is being taken, from 0.
    running
        bool (N,): the images that have not ended.
    ended_in
        int64 (N,): the step in which each has ended, or `RUNS`.
    by_update
        bool (N,): whether an update ended it, and not the score or its gradient.
    has_gradient
        bool (N,): whether one of the first `PATIENCE_WITHOUT_GRADIENT` steps had a gradient.
    recent_scores
        (N, `RECENT`): those of step t in column t modulo `RECENT`; NaN after an image has ended.
        None before the first step.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.running = torch.ones(count, dtype=torch.bool, device=device)
        self.ended_in = torch.full((count,), RUNS, dtype=torch.int64, device=device)
        self.by_update = torch.zeros_like(self.running)
        self.has_gradient = torch.zeros_like(self.running)
        self.recent_scores: torch.Tensor | None = None

    def reset(self) -> None:
        """Begin anew, in the same memory."""
        self.step.zero_()
        self.running.fill_(True)
        self.ended_in.fill_(RUNS)
        self.by_update.zero_()
        self.has_gradient.zero_()

    def tensors(self) -> list[torch.Tensor]:
        """Return all that steps change."""
        flags = [self.step, self.running, self.ended_in, self.by_update, self.has_gradient]
        return flags if self.recent_scores is None else [*flags, self.recent_scores]

    def end_step(
        self,
        scores: torch.Tensor,
        flags: torch.Tensor,
        phase: torch.Tensor,
        next_phase: torch.Tensor,
        sums: torch.Tensor,
        boxes: NextBoxes | None,
    ) -> None:
        """Do all of the below at once: see `fvfast.ops.step_end.end_step_`."""
        assert self.recent_scores is not None, "make_room has not been called"
        end_step_(
            scores, flags, phase, next_phase, sums, running=self.running, ended_in=self.ended_in,
            by_update=self.by_update, has_gradient=self.has_gradient,
            recent_scores=self.recent_scores, step=self.step, patience=PATIENCE_WITHOUT_GRADIENT,
            boxes=boxes,
        )  # fmt: skip

    def make_room(self) -> None:
        """Make the memory of the scores before the first step."""
        shape = (len(self.running), RECENT)
        self.recent_scores = torch.full(shape, float("nan"), device=self.running.device)

    def check_scores(self, finite: torch.Tensor) -> None:
        """End the images whose scores or gradients (N,) are not finite."""
        self._end(finite)

    def check_update(self, finite: torch.Tensor) -> None:
        """End the images whose state (N,) is not finite after an update."""
        self.by_update.logical_or_(self._end(finite))

    def add_scores(self, scores: torch.Tensor) -> None:
        """Keep the scores (N,) of this step."""
        if self.recent_scores is None:
            self.recent_scores = scores.new_full((len(scores), RECENT), float("nan"))
        column = scores.where(self.running, float("nan")).unsqueeze(1)
        self.recent_scores.index_copy_(1, (self.step % RECENT).view(1), column)

    def watch(self, gradient: torch.Tensor) -> None:
        """Remember which images (N, ...) have a gradient in the first steps."""
        early = self.step < PATIENCE_WITHOUT_GRADIENT
        self.has_gradient.logical_or_(gradient.flatten(1).any(1) & early)

    def close_step(self) -> None:
        """Go on to the next step."""
        self.step.add_(1)

    def _end(self, finite: torch.Tensor) -> torch.Tensor:
        failed = self.running & ~finite
        # Not masked_fill_, which has the host read the number on a GPU.
        torch.where(failed, self.step, self.ended_in, out=self.ended_in)
        self.running.logical_and_(finite)
        return failed


@dataclasses.dataclass(frozen=True)
class Seen:
    """A record as the host has seen it.

    Attributes
    ----------
    steps
        How many steps had their scores in it.
    ended_in, by_update, has_gradient
        Of each image: see `StepRecord`.
    recent_scores
        See there, on the CPU.
    """

    steps: int
    ended_in: list[int]
    by_update: list[bool]
    has_gradient: list[bool]
    recent_scores: torch.Tensor | None

    @property
    def ended_at(self) -> int | None:
        """The first step that no image takes; None while one runs."""
        if RUNS in self.ended_in:
            return None
        return max(map(int.__add__, self.ended_in, map(int, self.by_update)))


class Looks:
    """Looks of the host at a record: at once, or every so many steps without waiting.

    A look at once makes the host wait for the device, which then waits for the host's next work.
    A copy that is looked at when the next one begins makes neither wait.

    Parameters
    ----------
    record
        What to look at.
    every
        Steps between two looks, at most `LOOK_EVERY`. 1: at once.
    """

    def __init__(self, record: StepRecord, every: int) -> None:
        if not 1 <= every <= LOOK_EVERY:
            raise ValueError(f"Looks: every must be in [1, {LOOK_EVERY}], got {every}.")
        self.every = every
        self._record = record
        self._waiting: deque[_Copy] = deque()

    @property
    def are_at_once(self) -> bool:
        """Whether the host knows of each step before the next."""
        return self.every == 1

    def now(self, steps: int) -> Seen:
        """Look at the record as it is, after so many steps with scores."""
        self._waiting.clear()  # what they would show is in this look, too
        return _Copy(self._record, steps, wait=True).read()

    def after(self, steps: int) -> Seen | None:
        """Look when it is time: at what the record was `every` steps ago, unless at once."""
        if self.are_at_once:
            return self.now(steps)
        if steps % self.every:
            return None
        self._waiting.append(_Copy(self._record, steps, wait=False))
        return self._waiting.popleft().read() if len(self._waiting) > 1 else None


class _Copy:
    """A copy of a record on its way to the CPU."""

    def __init__(self, record: StepRecord, steps: int, *, wait: bool) -> None:
        self._steps = steps
        flags = (record.ended_in, record.by_update.long(), record.has_gradient.long())
        scores = record.recent_scores
        self._flags = _to_cpu(torch.stack(flags), wait=wait)
        self._scores = None if scores is None else _to_cpu(scores, wait=wait)
        self._event: torch.cuda.Event | None = None
        if record.step.is_cuda and not wait:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(record.step.device))

    def read(self) -> Seen:
        """Return what it shows, when it has arrived."""
        if self._event is not None:
            self._event.synchronize()
        ended_in, by_update, has_gradient = self._flags.tolist()
        return Seen(
            self._steps, ended_in, list(map(bool, by_update)), list(map(bool, has_gradient)),
            self._scores,
        )  # fmt: skip


def _to_cpu(numbers: torch.Tensor, *, wait: bool) -> torch.Tensor:
    if wait:
        return numbers.cpu()  # on the CPU no copy, because it is read at once
    return numbers.to("cpu", non_blocking=True, copy=True)
