"""The pass through the network in a whole step, which knows whether the network draws numbers."""

from collections.abc import Callable

import torch

from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.graphs.rehearsal import Pass


class StepPass:
    """Runs passes; what the network draws depends on a seed and the step.

    Parameters
    ----------
    run
        Runs a pass.
    seed
        Any integer.
    step
        Says which step it is, from 0.

    Attributes
    ----------
    draws
        Whether the network draws random numbers; None before the first pass.
    """

    def __init__(self, run: Pass, seed: int, step: Callable[[], int]) -> None:
        self.draws: bool | None = None
        self._run = run
        self._seed = seed
        self._step = step

    def __call__(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (N,) and the gradient of the views."""
        if self.draws is False:
            return self._run(views)
        with drawn_from(self._seed, self._step(), views.device) as draws:
            results = self._run(views)
        self.draws = bool(self.draws) or draws.happened
        return results
