"""Whole steps of a run that are replayed from CUDA graphs."""

import dataclasses
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeVar, cast

import torch

from fvfast.engine.agreement import SAME, largest_difference
from fvfast.engine.captures import CAPTURES
from fvfast.engine.graphs.cuda_graph import (
    EAGER_PASSES,
    UNSTEADY,
    CaptureSteps,
    kernel_settings,
)
from fvfast.engine.graphs.kept_scorers import KeptScorers
from fvfast.engine.graphs.rehearsal import rehearse

STEPS_PER_GRAPH = 2
"""How many steps a graph takes."""

FIRST_REPLAY = -(-EAGER_PASSES // STEPS_PER_GRAPH) * STEPS_PER_GRAPH
"""Steps before the first replay: the host looks after a multiple of the steps of a graph."""

_log = logging.getLogger(__name__)


class Step(Protocol):
    """A step of a run whose numbers all lie on the device."""

    def __call__(self, number: int, count: int = 1) -> None:
        """Take so many of one variant, which the number of the first, from 0, tells.

        The number serves for nothing else. `STEPS_PER_GRAPH` of them can be captured.
        """
        ...

    def variant(self, number: int) -> Hashable:
        """Return what differs in what is recorded: steps with the same share a graph."""
        ...

    @property
    def draws(self) -> bool:
        """Whether the network draws random numbers, which a graph would repeat."""
        ...

    def state(self) -> Sequence[torch.Tensor]:
        """Return all that it changes; what shows how far it goes comes first."""
        ...

    def restore(self, saved: Sequence[torch.Tensor]) -> None:
        """Write copies of `state` back."""
        ...

    def end(self) -> None:
        """Forget the run, and its network."""
        ...


S = TypeVar("S", bound=Step)


@dataclasses.dataclass
class _Graph:
    """Two steps of one variant as a graph, if they have been captured.

    Attributes
    ----------
    replay
        Takes them; None where there is no graph.
    settings
        Of torch, when they were captured.
    tolerance
        By how much a replay may differ from ordinary steps.
    ordinary
        Ordinary steps of this variant in this run.
    is_checked
        Whether a replay was compared with ordinary steps in this run.
    is_new
        Captured, and not compared with other steps than those that were recorded.
    """

    replay: Callable[[], None] | None = None
    settings: tuple[object, ...] = ()
    tolerance: float = SAME
    ordinary: int = 0
    is_checked: bool = False
    is_new: bool = False


class RepeatedSteps:
    """Takes steps: the first few as they are, later ones by replaying captured graphs.

    The first step of a run is never replayed, because there is no step before it.

    Parameters
    ----------
    capture
        Makes a graph of steps.

    Attributes
    ----------
    scorers
        Those that graphs read their targets from.
    is_in_use
        Whether a run has begun and not ended.
    taken
        How many steps this run has taken.
    """

    def __init__(self, capture: CaptureSteps) -> None:
        self.scorers = KeptScorers()
        self.is_in_use = False
        self.taken = 0
        self._capture = capture
        self._step: Step | None = None
        self._graphs: dict[Hashable, _Graph] = {}
        self._obstacle = ""

    @property
    def status(self) -> str:
        """How steps are taken, in words."""
        if self._obstacle:
            return f"without a CUDA graph: {self._obstacle}"
        if any(graph.replay is not None for graph in self._graphs.values()):
            return "replayed from a CUDA graph, two at once"
        return f"without a CUDA graph before step {FIRST_REPLAY + 1}"

    def begin(self, make: Callable[[], S]) -> S:
        """Begin a run; return its step, which uses the memory of that of earlier runs.

        Parameters
        ----------
        make
            Makes the step of the first run.
        """
        step = make() if self._step is None else cast(S, self._step)
        self._step, self.taken, self.is_in_use = step, 0, True
        for graph in self._graphs.values():
            graph.ordinary, graph.is_checked = 0, False
        return step

    def end(self) -> None:
        """Forget the run."""
        if self._step is not None:
            self._step.end()
        self.is_in_use = False

    def take(self, most: int) -> int:
        """Take at least one step and at most so many; return how many."""
        assert self._step is not None
        assert self.is_in_use, "the steps belong to no run"
        variant = self._step.variant(self.taken)
        last = self.taken + STEPS_PER_GRAPH - 1
        together = most >= STEPS_PER_GRAPH and self._step.variant(last) == variant
        graph = self._graphs.setdefault(variant, _Graph())
        if self.taken == 0 or not together or self._obstacle:
            count = self._ordinary(self._step, graph)
        else:
            count = self._take(self._step, graph)
        self.taken += count
        return count

    def _take(self, step: Step, graph: _Graph) -> int:
        if graph.replay is not None and graph.settings == kernel_settings():
            if graph.is_checked:
                return self._replayed(step, graph, graph.replay)
            return self._check(step, graph, graph.replay)
        try:
            if graph.replay is None and graph.ordinary == EAGER_PASSES - 1:
                return self._rehearsed(step, graph)
            if graph.replay is None and graph.ordinary >= FIRST_REPLAY:
                return self._captured(step, graph)
        except torch.OutOfMemoryError as error:  # of copies, before anything has changed
            self._go_without(str(error))
        return self._ordinary(step, graph)

    def _ordinary(self, step: Step, graph: _Graph) -> int:
        step(self.taken)
        graph.ordinary += 1
        return 1

    def _replayed(self, step: Step, graph: _Graph, replay: Callable[[], None]) -> int:
        try:
            replay()
        except RuntimeError as error:
            # In some versions of torch a failed capture breaks all other graphs of the process.
            self._go_without(f"a replay failed: {error}")
            return self._ordinary(step, graph)
        return STEPS_PER_GRAPH

    def _rehearsed(self, step: Step, graph: _Graph) -> int:
        """Take a step on the stream of captures, looking for what a graph cannot contain."""
        if CAPTURES.failure or step.draws:
            self._go_without(CAPTURES.failure or "the network draws random numbers")
            return self._ordinary(step, graph)
        before = _copies(step.state())

        def run() -> tuple[torch.Tensor, ...]:
            step(self.taken)
            return tuple(step.state())

        try:
            _, obstacle = rehearse(run, before[0].device)
        except RuntimeError as error:
            # The step waits for the GPU, or fails: it is taken again, as it is.
            step.restore(before)
            self._go_without(str(error))
            return self._ordinary(step, graph)
        if obstacle:
            self._go_without(obstacle)
        graph.ordinary += 1
        return 1

    def _captured(self, step: Step, graph: _Graph) -> int:
        """Capture steps, and compare their replay with steps as they are, which count."""

        def steps() -> None:
            step(self.taken, STEPS_PER_GRAPH)

        before = _copies(step.state())
        steps()
        expected = _copies(step.state())
        step.restore(before)
        steps()
        spread = _difference(step.state(), expected)
        step.restore(before)
        try:
            replay = self._capture(steps, step.state())
            step.restore(before)
            replay()
            difference = _difference(step.state(), expected)
        except RuntimeError as error:  # what CUDA refuses to capture, and too little memory
            self._go_without(str(error))
        else:
            graph.tolerance = max(SAME, UNSTEADY * spread)
            if difference <= graph.tolerance:
                # The next steps are compared, too: these were those that were recorded, with all
                # that they may have taken from the host.
                graph.replay, graph.settings = replay, kernel_settings()
                graph.is_checked, graph.is_new = False, True
            else:
                self._go_without(f"a replay differs by {difference:.2g}")
        step.restore(expected)
        return STEPS_PER_GRAPH

    def _check(self, step: Step, graph: _Graph, replay: Callable[[], None]) -> int:
        """Compare the first replay of a run with steps as they are, which count."""
        graph.is_checked, is_new, graph.is_new = True, graph.is_new, False
        before = _copies(step.state())
        step(self.taken, STEPS_PER_GRAPH)
        expected = _copies(step.state())
        step.restore(before)
        replay()
        difference = _difference(step.state(), expected)
        if not difference <= graph.tolerance:
            if is_new:
                self._go_without(f"a replay of later steps differs by {difference:.2g}")
            graph.replay = None
        step.restore(expected)
        return STEPS_PER_GRAPH

    def _go_without(self, obstacle: str) -> None:
        self._graphs.clear()
        self._obstacle = obstacle.strip().partition("\n")[0]
        _log.info("steps are taken without a CUDA graph: %s", self._obstacle)


def _difference(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest relative difference; images that have ended may have no finite numbers."""
    pairs = list(zip(actual, expected, strict=True))
    if not all(torch.equal(one.isfinite(), other.isfinite()) for one, other in pairs):
        return math.inf
    numbers = [
        [torch.nan_to_num(tensor.detach(), 0.0, 0.0, 0.0) for tensor in pair] for pair in pairs
    ]
    return largest_difference([one for one, _ in numbers], [other for _, other in numbers])


def _copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in tensors]
