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
from fvfast.run.memory_checks import Available, free_bytes, gibibytes
from fvfast.run.progress import StepBar
from fvfast.run.score_table import ScoreTable

PATIENCE_WITHOUT_GRADIENT = 10
"""Steps without any gradient after which the user is told."""


@dataclasses.dataclass(frozen=True)
class Gradients:
    """What one step computes for N images.

    Attributes
    ----------
    scores
        (N,), before the update.
    gradient
        Of the scores with respect to what is optimized, or to the images that it makes: (N, ...).
    """

    scores: torch.Tensor
    gradient: torch.Tensor


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
    loop = _Loop(
        parametrization, render, names, nb_steps, transparency, callback, save_every, available
    )
    try:
        with reused_memory():
            for step in range(nb_steps):
                let_interrupts_through()
                if not loop.take(step, gradients(step)):
                    break
                bar.step(lambda: loop.scores.last().mean().item())
            let_interrupts_through()
    except KeyboardInterrupt:
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
        parametrization: Parametrization,
        render: Callable[[], torch.Tensor],
        names: list[str],
        nb_steps: int,
        transparency: torch.Tensor | None,
        callback: Callback | None,
        save_every: int | None,
        available: Available,
    ) -> None:
        self.state = parametrization.state
        self.ascend = parametrization.ascend
        self.render = render
        self.names = names
        self.nb_steps = nb_steps
        self.callback = callback
        self.save_every = save_every
        self.available = available
        self.result = Ascent()
        self.scores = ScoreTable(len(names))
        self.transparency = transparency
        self.final_transparency: dict[int, torch.Tensor] = {}  # of images that have ended
        self.running = torch.ones(len(names), dtype=torch.bool, device=self.state.device)
        self.has_gradient = torch.zeros_like(self.running)
        self.last_good = self.state.detach().clone()
        self.saved_step = -1

    def take(self, step: int, gradients: Gradients) -> bool:
        """Update the images with one step's gradients; False ends the run."""
        # A sum is not finite if one of its terms is not.
        finite = (gradients.scores + gradients.gradient.flatten(1).sum(1)).isfinite()
        self._stop(step, self.running & ~finite, "the score or its gradient")
        if not bool(self.running.any()):
            return False
        self.last_good.copy_(self.state.detach())
        self.scores.append(gradients.scores.where(self.running, float("nan")))
        self._watch_for_missing_gradient(step, gradients.gradient)
        self._update(step, gradients.gradient)
        is_full = False
        if self.save_every and (step + 1) % self.save_every == 0:
            self._save(step)
            is_full = self._is_full(step)
        return not self._call_back(step, gradients.scores) and not is_full

    def finish(self) -> Ascent:
        """Add the final images, unless the last step has saved them."""
        if self.saved_step != len(self.scores) - 1 or not self.result.images:
            self._save(len(self.scores) - 1)
        self.result.scores = self.scores.whole()
        return self.result

    def _stop(self, step: int, failed: torch.Tensor, what: str) -> None:
        """End the run of some images, and put them back to their last good state."""
        if not bool(failed.any()):
            return
        indices = failed.nonzero().flatten().tolist()
        warn_user(
            f"step {step}: {what} is not finite for "
            f"{', '.join(self.names[index] for index in indices)}; the last finite image is kept. "
            "Check the model's output, values_range and the learning rate.",
            RuntimeWarning,
        )
        self.running = self.running & ~failed
        with torch.no_grad():
            self.state[failed] = self.last_good[failed]
        self.saved_step = -1  # what was saved last is no longer the final image
        if self.transparency is not None:
            for index in indices:
                self.final_transparency[index] = self.transparency[index].clone()

    def _watch_for_missing_gradient(self, step: int, gradient: torch.Tensor) -> None:
        if step >= PATIENCE_WITHOUT_GRADIENT:
            return
        self.has_gradient |= gradient.flatten(1).any(1)
        without = self.running & ~self.has_gradient
        if step == min(PATIENCE_WITHOUT_GRADIENT, self.nb_steps) - 1 and bool(without.any()):
            names = [self.names[index] for index in without.nonzero().flatten().tolist()]
            warn_user(
                f"the gradient was zero in each of the first {step + 1} steps for "
                f"{', '.join(names)}: the unit is dead on these images, or values_range is not "
                "the range that the model expects. (optimize(warmup_steps=...) can wake units "
                "behind a ReLU.)",
                RuntimeWarning,
            )

    def _update(self, step: int, gradient: torch.Tensor) -> None:
        if bool(self.running.all()):
            self.ascend(gradient)
        else:
            stopped = ~self.running
            gradient[stopped] = 0
            self.ascend(gradient)
            # Momentum would still move the images that have ended.
            with torch.no_grad():
                self.state[stopped] = self.last_good[stopped]
        finite = self.state.detach().flatten(1).sum(1).isfinite()
        self._stop(step, self.running & ~finite, "the image after its update")

    def _call_back(self, step: int, scores: torch.Tensor) -> bool:
        if self.callback is None:
            return False
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
        self.saved_step = step
        self.result.images.append(self.render().cpu())
        if self.transparency is not None:
            transparency = self.transparency.cpu().clone()
            for index, final in self.final_transparency.items():
                transparency[index] = final.cpu()
            self.result.transparencies.append(transparency)
