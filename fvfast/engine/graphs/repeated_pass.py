"""A pass that several runs repeat, each with targets of its own."""

import weakref
from collections.abc import Callable, Hashable

import torch

from fvfast.engine.graphs.cuda_graph import Capture, GraphedPass, capture_pass
from fvfast.engine.graphs.kept_scorers import KeptScorers
from fvfast.engine.passes import MakeScorer, Passes, Scorer


def kind_of(scorer: Scorer) -> Hashable:
    """Return the kind of a scorer: those of one kind can take over each other's targets.

    A weighted sum has one. None: the scorer has no kind and serves one run only.
    """
    return getattr(scorer, "kind", None)


class RepeatedPass:
    """A pass that is captured once for all runs whose scorers are of the same kind.

    A captured pass reads its targets from the memory in which they were when it was captured. So
    the scorers of the first run are kept, and each later run writes its targets into them. Between
    two runs nothing here refers to the network.

    Parameters
    ----------
    capture
        Makes a graph of the pass.
    """

    def __init__(self, capture: Capture = capture_pass) -> None:
        self._scorers = KeptScorers()
        self._run: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None
        owner = weakref.ref(self)  # a reference cycle would keep the graph's memory alive

        def run(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            one = owner()
            assert one is not None
            assert one._run is not None, "the pass belongs to no run"
            return one._run(views)

        self._graphed = GraphedPass(run, capture)

    @property
    def is_in_use(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._run is not None

    def begin(
        self,
        make_scorer: MakeScorer,
        make_passes: Callable[[MakeScorer], Passes],
        run: Callable[[Passes, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """Begin a run.

        Parameters
        ----------
        make_scorer
            Makes the run's scorers.
        make_passes
            Makes its passes, given a function that makes scorers.
        run
            Runs one pass.
        """
        self._graphed.begin_run()
        passes = make_passes(self._scorers.turned_to(make_scorer))
        self._run = lambda views: run(passes, views)

    @property
    def status(self) -> str:
        """How passes run, in words."""
        return self._graphed.status

    def end(self) -> None:
        """Forget the run."""
        self._run = None

    def __call__(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one pass; the next pass may overwrite the gradient."""
        return self._graphed(views)
