"""Runs the user's network for a whole optimisation: scores and the gradients of what it sees."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fvfast.engine.cuda_graph import GraphedPass, Pass, can_be_captured
from fvfast.engine.forms import Running, in_form
from fvfast.engine.passes import Passes, Scorer
from fvfast.engine.plan import Plan
from fvfast.engine.taps import TappedModel


class Engine:
    """Scores and gradients of images, with a network that is in the form of a plan.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    plan
        How to run it.
    passes
        How many views at a time, and their scores.
    running
        The network in its form.
    runs_user_code
        Whether the scores call functions of the user.
    """

    def __init__(
        self,
        tapped: TappedModel,
        plan: Plan,
        passes: Passes,
        running: Running,
        *,
        runs_user_code: bool,
    ) -> None:
        self.tapped = tapped
        self.plan = plan
        self.passes = passes
        self.running = running
        self.runs_user_code = runs_user_code
        self._runs: dict[tuple[int, bool], Pass] = {}

    @property
    def views_dtype(self) -> torch.dtype:
        """Type in which views are best made."""
        form = self.plan.form
        takes = form.dtype is not None and not form.autocast and self.tapped.preprocess is None
        return form.dtype if takes and form.dtype is not None else torch.float32

    @property
    def views_format(self) -> torch.memory_format:
        """Memory format in which views are best made."""
        return torch.channels_last if self.plan.form.channels_last else torch.contiguous_format

    def gradients(
        self, views: torch.Tensor, count: int, *, join_activations: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute scores (N,) and the gradient of their sum, of the shape and type of the views.

        Parameters
        ----------
        views
            (N*K, C, h, w).
        count
            N.
        join_activations
            False leaves ReLUs to themselves, for who changes them.

        Raises
        ------
        torch.OutOfMemoryError
            Not even one view fits the memory.
        """
        settings = count, join_activations
        if settings not in self._runs:
            self._runs[settings] = self._graphed(lambda seen: self._pass(seen, *settings), views)
        scores, gradient = self._runs[settings](views)
        return scores, gradient.to(views.dtype)

    def _graphed(self, run: Pass, views: torch.Tensor) -> Pass:
        """Let a pass be captured in a CUDA graph where that is possible."""
        possible = can_be_captured(
            self.tapped.model, views.device, runs_user_code=self.runs_user_code
        )
        return GraphedPass(run) if possible else run

    def _pass(
        self, views: torch.Tensor, count: int, join_activations: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        def network(part: torch.Tensor) -> list[torch.Tensor]:
            return self.tapped(self.running.form.feed(part))

        # Around the scores too: a user's function may call the network itself.
        context = self.running.context(views.device, join_activations=join_activations)
        with torch.enable_grad(), context:
            return self.passes.run(network, views, count)


@contextlib.contextmanager
def running_engine(
    tapped: TappedModel,
    plan: Plan,
    scorer: Callable[[int, int], Scorer],
    name: str,
    *,
    runs_user_code: bool = True,
) -> Iterator[Engine]:
    """Put a network into the form of a plan for the length of a ``with`` statement.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    plan
        What `make_plan` returned.
    scorer
        Makes the function that scores images ``first`` to ``last`` (exclusive).
    name
        Of the first objective, for messages.
    runs_user_code
        Whether the scores call functions of the user.
    """
    passes = Passes(scorer, name, plan.views_per_pass, plan.gradient_scale)
    with in_form(tapped.model, plan.form, plan.convolutions) as running:
        yield Engine(tapped, plan, passes, running, runs_user_code=runs_user_code)


class EngineAtFirstUse(contextlib.ExitStack):
    """An engine that starts when a step asks for it and ends with the ``with`` statement.

    Within a step an interrupt ends the run like in any other.

    Parameters
    ----------
    start
        Makes what `running_engine` returns, from the arguments of the first call.
    """

    def __init__(self, start: Callable[..., contextlib.AbstractContextManager[Engine]]) -> None:
        super().__init__()
        self._start = start
        self._engine: Engine | None = None

    def __call__(self, *args: Any) -> Engine:
        """Return the engine."""
        if self._engine is None:
            self._engine = self.enter_context(self._start(*args))
        return self._engine
