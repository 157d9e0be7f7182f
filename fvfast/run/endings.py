"""Images whose run ends early because a number is not finite, and what they were before."""

import math

import torch

from fvfast.run.step_record import StepRecord


class Endings:
    """Keeps images that have ended as they were after their last good step.

    Parameters
    ----------
    record
        Says which images run.
    state
        What is optimized (N, ...).
    transparency
        (N, C, H, W), which grows with each step; or None.
    at_once
        Whether the host knows at once when an image ends: then it can do without passes over all
        images that keep some of them as they are. Otherwise the device keeps the last good states,
        and they are put back when the host has seen it.
    """

    def __init__(
        self,
        record: StepRecord,
        state: torch.Tensor,
        transparency: torch.Tensor | None,
        *,
        at_once: bool,
    ) -> None:
        self._record = record
        self._state = state
        self._last_good = state.detach().clone()
        self._transparency = transparency
        self._final_transparency: torch.Tensor | None = None
        self._some_have = False
        self._some_may_have = not at_once
        if transparency is not None and not at_once:
            self._final_transparency = transparency.clone()

    def begin_step(self) -> None:
        """Take over the transparency, to which this step has been added."""
        if self._transparency is None or self._final_transparency is None:
            return
        running = _along(self._transparency, self._record.running)
        final = self._final_transparency
        torch.where(running, self._transparency, final, out=final)

    def keep(self) -> None:
        """Call the present state of the images good."""
        state = self._state.detach()
        if self._some_may_have:
            running = _along(state, self._record.running)
            torch.where(running, state, self._last_good, out=self._last_good)
        else:
            self._last_good.copy_(state)

    def gradient_of_running(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return a gradient that is 0 for images that have ended: an optimizer may mix images."""
        if not self._some_may_have:
            return gradient
        return gradient.where(_along(gradient, self._record.running), 0)

    @property
    def transparency(self) -> torch.Tensor | None:
        """The transparencies of all images, each until its end."""
        return self._transparency if self._final_transparency is None else self._final_transparency

    def put_back(self) -> None:
        """Set images that are known to have ended to their last good state.

        Not between `Parametrization.image` and the update, which may need the state as it was.
        """
        if not self._some_have:
            return
        with torch.no_grad():
            running = _along(self._state, self._record.running)
            self._state.copy_(torch.where(running, self._state, self._last_good))

    def some_have_ended(self) -> None:
        """Learn that an image has ended."""
        self._some_have = self._some_may_have = True
        if self._transparency is not None and self._final_transparency is None:
            self._final_transparency = self._transparency.clone()


class FrozenEndings:
    """Endings of images that steps leave as they are from then on: nothing has to be put back.

    Parameters
    ----------
    transparency
        (N, C, H, W), to which images add until they end.
    """

    def __init__(self, transparency: torch.Tensor) -> None:
        self.transparency = transparency

    def put_back(self) -> None:
        """Do nothing: all images are as they were after their last good step."""

    def some_have_ended(self) -> None:
        """Do nothing: later steps know it."""


def are_finite(numbers: torch.Tensor) -> torch.Tensor:
    """Say for each image whether all of its numbers (N, ...) are finite.

    In fewer launches than `torch.isfinite`, and without a sum, which may overflow.
    """
    if numbers.ndim == 1:
        return _is_finite(numbers)
    flat = numbers.flatten(1)
    if numbers.is_cuda:  # one launch; the largest is infinite or NaN if one is
        return _is_finite(torch.linalg.vector_norm(flat, math.inf, dim=1))
    # On the CPU the norm is not vectorized, and takes ten times as long.
    return _is_finite(flat.amax(1)) & _is_finite(flat.amin(1))


def _is_finite(numbers: torch.Tensor) -> torch.Tensor:
    return numbers * 0 == 0


def _along(values: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
    """Reshape one flag per image (N,) so that it fits values (N, ...)."""
    return flags.view(-1, *[1] * (values.ndim - 1))
