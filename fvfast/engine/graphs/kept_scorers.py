"""Scorers that a captured graph reads its targets from, kept for later runs."""

from typing import Any

from fvfast.engine.passes import MakeScorer, Scorer


class KeptScorers:
    """The scorers of the first run, into which each later run writes its targets.

    A graph reads targets from the memory in which they were when it was captured.
    """

    def __init__(self) -> None:
        self._scorers: dict[tuple[int, int], Any] = {}

    def turned_to(self, make_scorer: MakeScorer) -> MakeScorer:
        """Take over the targets of a run; return what makes the kept scorers."""
        for (first, last), kept in self._scorers.items():
            kept.turn_to(make_scorer(first, last))

        def kept_scorer(first: int, last: int) -> Scorer:
            if (first, last) not in self._scorers:
                self._scorers[first, last] = make_scorer(first, last)
            scorer: Scorer = self._scorers[first, last]
            return scorer

        return kept_scorer
