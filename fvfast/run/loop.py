"""Gradient ascent on images: the loop that `maco` and `optimize` share.

It loses nothing. An interrupt, a callback or a number that is not finite ends the run of the images
concerned, and they are kept as they were after their last good step.
"""

import dataclasses
from collections.abc import Callable

import torch

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.interrupts import let_interrupts_through, opened, user_insists
from fvfast.engine.memory import available_memory, reused_memory
from fvfast.parametrizations.base import Parametrization
from fvfast.run.endings import Endings, FrozenEndings
from fvfast.run.memory_checks import Available, free_bytes, gibibytes
from fvfast.run.news import News
from fvfast.run.progress import StepBar
from fvfast.run.score_table import ScoreTable
from fvfast.run.step_record import LOOK_EVERY, PATIENCE_WITHOUT_GRADIENT, Looks, Seen, StepRecord
from fvfast.run.step_timer import StepTimer
from fvfast.run.step_update import Gradients, StepUpdate
from fvfast.run.whole_step import WholeSteps


class StepReport:
    """What a callback receives after each step.

    Attributes
    ----------
    step
        Index of the step that has just been taken, from 0.
    nb_steps
        Number of steps of the run.
    names
        Names of the N combinations.
    scores
        (N,) scores of this step, computed before its update.
    """

    def __init__(
        self,
        step: int,
        nb_steps: int,
        names: list[str],
        scores: torch.Tensor,
        render: Callable[[], torch.Tensor],
    ) -> None:
        self.step = step
        self.nb_steps = nb_steps
        self.names = names
        self.scores = scores
        self._render: Callable[[], torch.Tensor] | None = render
        self._images: torch.Tensor | None = None

    @property
    def images(self) -> torch.Tensor:
        """The images (N, C, H, W) after this step.

        Computed when first read, which must be during the callback: afterwards the run goes on.
        """
        if self._images is None:
            if self._render is None:
                raise RuntimeError(
                    "StepReport.images must be read during the callback: the run has gone on."
                )
            self._images = self._render()
        return self._images

    def close(self) -> None:
        """Forget how to compute the images, because the run goes on."""
        self._render = None


Callback = Callable[[StepReport], bool | None]
"""Called after each step; returning True ends the run and keeps its result."""


@dataclasses.dataclass
class Ascent:
    """Result of a run.

    Attributes
    ----------
    images
        Each batch of images (N, C, H, W) that was asked for; the last one is the final one.
    transparencies
        For each of these batches, the sum of the absolute image gradients until then (N, C, H, W);
        empty where the run has no transparency.
    scores
        (N, steps taken); NaN for the steps after an image has ended.
    interrupted
        Whether the user interrupted the run.
    """

    images: list[torch.Tensor] = dataclasses.field(default_factory=list)
    transparencies: list[torch.Tensor] = dataclasses.field(default_factory=list)
    scores: torch.Tensor = dataclasses.field(
        default_factory=lambda: torch.empty(0, 0, device="cpu")
    )
    interrupted: bool = False


def run_ascent(
    parametrization: Parametrization,
    gradients: Callable[[int], Gradients],
    render: Callable[[], torch.Tensor],
    *,
    names: list[str],
    nb_steps: int,
    transparency: torch.Tensor | None = None,
    bar: StepBar,
    callback: Callback | None = None,
    save_every: int | None = None,
    available: Available = available_memory,
    look_every: int | None = None,
    whole: WholeSteps | None = None,
    timer: StepTimer | None = None,
) -> Ascent:
    """Take up to ``nb_steps`` steps of gradient ascent.

    Parameters
    ----------
    parametrization
        What is optimized.
    gradients
        Computes one step's scores and gradients.
    render
        Computes the images of the present state.
    names
        Names of the N combinations, for messages.
    transparency
        (N, C, H, W), to which ``gradients`` adds the absolute gradient of the images; or None.
    bar
        Is told of the steps, and closed.
    nb_steps, callback, save_every
        See `fvfast.maco`.
    available
        Says how many bytes are free for the images that are kept.
    look_every
        After how many steps the host looks whether numbers are finite. Default: `LOOK_EVERY` on a
        GPU, unless a callback has to know at once; 1 elsewhere. The results are the same.
    whole
        Takes whole steps in place of ``gradients`` and the update; not with a callback.
    timer
        Is told how many steps have been taken, each time.

    Returns
    -------
    ascent
        Images, transparencies and scores.

    Warns
    -----
    RuntimeWarning
        A score or gradient is not finite, the gradient stays zero, or the run is interrupted.

    Raises
    ------
    KeyboardInterrupt
        The user interrupts before the first step is taken, or twice within three seconds.
    """
    if look_every is None:
        on_gpu = callback is None and parametrization.state.is_cuda
        look_every = LOOK_EVERY if on_gpu or whole is not None else 1
    update = None
    record: StepRecord
    endings: Endings | FrozenEndings
    if whole is not None:
        record, endings = whole.step.record, whole.step.endings
    else:
        record = StepRecord(len(names), parametrization.state.device)
        endings = Endings(record, parametrization.state, transparency, at_once=look_every == 1)
        update = StepUpdate(parametrization, record, endings)
    loop = _Loop(
        record, endings, update, render, names, nb_steps, callback, save_every, available,
        look_every,
    )  # fmt: skip
    try:
        with reused_memory():
            goes_on = True
            while goes_on and loop.steps < nb_steps:
                let_interrupts_through()
                before = loop.steps
                if whole is not None:
                    goes_on = loop.follow(whole.steps.take(loop.steps_until_stop()))
                else:
                    goes_on = loop.take(gradients(loop.steps))
                if timer is not None:
                    timer.after(loop.steps)
                if goes_on:
                    for _ in range(loop.steps - before):
                        bar.step(loop.mean_score)
            let_interrupts_through()
    except KeyboardInterrupt:
        loop.catch_up()
        if not len(loop.scores) or user_insists():
            raise
        loop.result.interrupted = True
        warn_user(
            f"interrupted after {len(loop.scores)} of {nb_steps} steps: the images after the last "
            "of these are kept.",
            RuntimeWarning,
        )
    finally:
        bar.close()
    return loop.finish()


class _Loop:
    """State of a run."""

    def __init__(
        self,
        record: StepRecord,
        endings: Endings | FrozenEndings,
        update: StepUpdate | None,
        render: Callable[[], torch.Tensor],
        names: list[str],
        nb_steps: int,
        callback: Callback | None,
        save_every: int | None,
        available: Available,
        look_every: int,
    ) -> None:
        self.record, self.endings, self.update = record, endings, update
        self.render = render
        self.names = names
        self.nb_steps = nb_steps
        self.callback = callback
        self.save_every = save_every
        self.available = available
        self.result = Ascent()
        self.looks = Looks(self.record, look_every)
        self.news = News(names, nb_steps)
        self.scores = ScoreTable(len(names))
        self.steps = 0  # that the device has taken, or has been told to take
        self.saved_step = -1
        self.are_news = False  # since then

    def take(self, gradients: Gradients) -> bool:
        """Update the images with one step's gradients; False ends the run."""
        step = self.steps
        assert self.update is not None, "whole steps update the images themselves"
        self.update.check(gradients)
        if self.looks.are_at_once and not self._learn(self.looks.now(step)):
            return False
        self.update.take(gradients, watch=step < PATIENCE_WITHOUT_GRADIENT)
        return self.follow(1, gradients.scores)

    def steps_until_stop(self) -> int:
        """Return how many steps there are until the host has something to do."""
        stops = [self.nb_steps, self.steps + self.looks.every - self.steps % self.looks.every]
        if self.save_every:
            stops.append(self.steps + self.save_every - self.steps % self.save_every)
        return min(stops) - self.steps

    def follow(self, count: int, scores: torch.Tensor | None = None) -> bool:
        """Do what comes after steps have been taken; False ends the run."""
        self.steps += count
        step = self.steps - 1
        seen = self.looks.after(self.steps)
        goes_on = seen is None or self._learn(seen)
        self.endings.put_back()  # momentum, too, moves images
        is_full = False
        if self.save_every and (step + 1) % self.save_every == 0:
            self.catch_up()  # saving waits for the device anyway
            if len(self.scores) <= step:
                return False  # no image has taken this step
            self._save(step)
            is_full = self._is_full(step)
        is_told_to_end = self._call_back(step, scores)
        return goes_on and not is_told_to_end and not is_full

    def catch_up(self) -> None:
        """Look at what the last steps have given."""
        self._learn(self.looks.now(self.steps))

    def mean_score(self) -> float:
        """Return the mean score of the last step."""
        recent = self.record.recent_scores
        assert recent is not None
        return recent[:, (self.steps - 1) % recent.shape[1]].mean().item()

    def finish(self) -> Ascent:
        """Add the final images, unless the last step has saved them."""
        self.catch_up()
        is_saved = self.saved_step == len(self.scores) - 1 and not self.are_news
        if not is_saved or not self.result.images:
            self._save(len(self.scores) - 1)
        self.result.scores = self.scores.whole()
        return self.result

    def _learn(self, seen: Seen) -> bool:
        """Take over what the host has seen, and say it; return whether an image still runs."""
        if self.news.tell(seen):
            self.are_news = True
            self.endings.some_have_ended()
        if seen.recent_scores is not None:
            self.scores.add(seen.recent_scores, seen.steps)
        if seen.ended_at is None:
            return True
        self.scores.drop_from(seen.ended_at)
        return False

    def _call_back(self, step: int, scores: torch.Tensor | None) -> bool:
        if self.callback is None:
            return False
        assert scores is not None
        report = StepReport(step, self.nb_steps, self.names, scores, self.render)
        try:
            return bool(opened(self.callback, report))
        finally:
            report.close()

    def _is_full(self, step: int) -> bool:
        """Whether the memory is too full for more images: then the run ends before it loses all."""
        kept = len(self.result.images)
        last = [images[-1] for images in (self.result.images, self.result.transparencies) if images]
        size = sum(images.numel() * images.itemsize for images in last)
        # Room for the final images, and as much again for what the caller does with them.
        if step == self.nb_steps - 1:
            return False
        if free_bytes(2 * size, torch.device("cpu"), self.available) is None:
            return False
        warn_user(
            f"step {step}: the memory is full with {kept} times {gibibytes(size)} that save_every="
            f"{self.save_every} has kept. The run ends here, and these images are returned.",
            RuntimeWarning,
        )
        return True

    def _save(self, step: int) -> None:
        self.saved_step, self.are_news = step, False
        self.endings.put_back()
        self.result.images.append(self.render().cpu())
        transparency = self.endings.transparency
        if transparency is not None:
            self.result.transparencies.append(transparency.cpu().clone())
