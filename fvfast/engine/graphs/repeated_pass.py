"""A pass that runs of the same kind repeat, each with targets of its own."""

import weakref
from collections.abc import Callable, Hashable
from typing import Any

import torch

from fvfast.engine.graphs.cuda_graph import Capture, GraphedPass, capture_pass
from fvfast.engine.passes import Passes, Scorer

PartScorer = Callable[[int, int], Scorer]
"""Makes the function that scores images ``first`` to ``last`` (exclusive)."""


def kind_of(scorer: Scorer) -> Hashable:
    """Return the kind of a scorer that turns to other targets, as a weighted sum can; or None."""
    return getattr(scorer, "kind", None)


class RepeatedPass:
    """A pass that is captured once for all runs of a kind.

    A captured pass reads its targets where they lay when it was captured. So the scorers of the
    first run stay, and turn to the targets of each later one. Between two runs nothing here holds
    on to the network.

    Parameters
    ----------
    capture
        Makes a graph of the pass.
    """

    def __init__(self, capture: Capture = capture_pass) -> None:
        self._scorers: dict[tuple[int, int], Any] = {}  # those of no kind serve one run only
        self._run: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None
        owner = weakref.ref(self)  # a circle would keep the graph's memory

        def run(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            one = owner()
            assert one is not None
            assert one._run is not None, "the pass belongs to no run"
            return one._run(views)

        self._graphed = GraphedPass(run, capture)

    @property
    def is_in_use(self) -> bool:
        """Whether a run has begun that has not ended."""
        return self._run is not None

    def begin(
        self,
        scorer: PartScorer,
        make_passes: Callable[[PartScorer], Passes],
        run: Callable[[Passes, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """Serve a run.

        Parameters
        ----------
        scorer
            Makes its scorers.
        make_passes
            Makes its passes with the scorers that it is told.
        run
            Takes one pass.
        """
        for (first, last), kept in self._scorers.items():
            kept.turn_to(scorer(first, last))

        def part(first: int, last: int) -> Scorer:
            if (first, last) not in self._scorers:
                self._scorers[first, last] = scorer(first, last)
            part_scorer: Scorer = self._scorers[first, last]
            return part_scorer

        self._graphed.begin_run()
        passes = make_passes(part)
        self._run = lambda views: run(passes, views)

    @property
    def status(self) -> str:
        """How passes run, for people."""
        return self._graphed.status

    def end(self) -> None:
        """Forget the run."""
        self._run = None

    def __call__(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one pass; the gradient may be overwritten by the next."""
        return self._graphed(views)
