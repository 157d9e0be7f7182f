"""What one step does with its scores and gradients: the update, and the record of it."""

import dataclasses

import torch

from fvfast.parametrizations.base import Parametrization
from fvfast.run.endings import Endings, are_finite
from fvfast.run.step_record import StepRecord


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


@dataclasses.dataclass(frozen=True)
class StepUpdate:
    """Takes a step, given its gradients, in operations of the device alone.

    Attributes
    ----------
    parametrization
        What is optimized.
    record, endings
        Of the run.
    """

    parametrization: Parametrization
    record: StepRecord
    endings: Endings

    def check(self, gradients: Gradients) -> None:
        """End the images whose score or gradient is not finite."""
        self.endings.begin_step()
        self.record.check_scores(are_finite(gradients.scores) & are_finite(gradients.gradient))

    def take(self, gradients: Gradients, *, watch: bool = True) -> None:
        """Update the images that run.

        Parameters
        ----------
        gradients
            Of the step, which `check` has seen.
        watch
            Whether to look for images without a gradient.
        """
        self.endings.keep()
        self.record.add_scores(gradients.scores)
        if watch:
            self.record.watch(gradients.gradient)
        self.parametrization.ascend(self.endings.gradient_of_running(gradients.gradient))
        self.record.check_update(are_finite(self.parametrization.state.detach()))
        self.record.close_step()
