"""Scores that count more or less from target to target, for paths between two objectives."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fvfast.objectives.scores import OnDevice, Score, Scorer, TurnableScorer


class Share(NamedTuple):
    """How much a target counts.

    Attributes
    ----------
    weight
        Factor on its score.
    target
        As the rule takes it.
    """

    weight: float
    target: Any


class SharedScore(Score):
    """Another score, whose targets count differently: the targets are of type `Share`.

    Parameters
    ----------
    score
        The rule.
    """

    def __init__(self, score: Score) -> None:
        self.score = score
        self.runs_user_code = score.runs_user_code
        self.compares_positions = score.compares_positions
        self.values_range = score.values_range

    def takes_shape(self, shape: tuple[int, ...], usual: tuple[int, ...]) -> bool:
        """Whether the rule does."""
        return self.score.takes_shape(shape, usual)

    def unit(self, shape: tuple[int, ...]) -> float:
        """Return the rule's own."""
        return self.score.unit(shape)

    def for_targets(self, targets: Sequence[Share]) -> "SharedScorer":
        """Return the scorer of these targets, one image per target."""
        weights = [target.weight for target in targets]
        return SharedScorer(weights, self.score.for_targets([one.target for one in targets]))


class SharedScorer(TurnableScorer):
    """The scores of another scorer, each times a weight.

    Parameters
    ----------
    weights
        N numbers.
    scorer
        Of N targets.
    """

    def __init__(self, weights: Sequence[float], scorer: Scorer) -> None:
        self._weights = OnDevice(torch.tensor(weights, dtype=torch.float32, device="cpu"))
        self._scorer = scorer
        kind = scorer.kind if isinstance(scorer, TurnableScorer) else None
        self.kind = None if kind is None else (SharedScorer, kind)

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """Score outputs (N*K, ...): (N,)."""
        return self._weights.on(output.device) * self._scorer(output)

    def turn_to(self, other: Any) -> None:
        """Copy the weights and targets of a scorer of the same kind over this one's, in place."""
        assert isinstance(self._scorer, TurnableScorer)  # all others have no kind
        self._weights.overwrite(other._weights)
        self._scorer.turn_to(other._scorer)
