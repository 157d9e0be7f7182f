"""How the output of a layer becomes the score of an objective.

A `Score` takes its targets once (channels, neurons, directions, ...) and returns a function, the
scorer, from a layer's output to one number per target. Targets are read by index: no mask of the
layer's shape is ever built.

The output's batch holds the views of all images, image after image: (N*K, ...) for N targets with K
views each. Scales are those of Xplique: means run over *all* elements of the layer, also those that
the target leaves out.
"""

import abc
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

Scorer = Callable[[torch.Tensor], torch.Tensor]
"""Maps a layer's output (N*K, ...) to float32 scores (N,)."""


class WeightedSum:
    """The scores of N combinations of an objective: weighted sums of its sub-objectives' scores.

    Attributes
    ----------
    kind
        Scorers of the same kind differ in nothing but the numbers that their targets are. None:
        that cannot be known.

    Parameters
    ----------
    multipliers, scorers
        One of each for every sub-objective.
    """

    def __init__(self, multipliers: Sequence[float], scorers: Sequence[Scorer]) -> None:
        self._terms = list(zip(multipliers, scorers, strict=True))
        kinds = [scorer.kind for scorer in scorers if isinstance(scorer, TurnableScorer)]
        known = len(kinds) == len(scorers) and None not in kinds
        self.kind: Hashable = tuple(zip(multipliers, kinds, strict=True)) if known else None

    def __call__(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Score the output (N*K, ...) of each sub-objective's layer: (N,), float32."""
        terms = [
            multiplier * scorer(output)
            for (multiplier, scorer), output in zip(self._terms, outputs, strict=True)
        ]
        return torch.stack(terms).sum(0)

    def turn_to(self, other: "WeightedSum") -> None:
        """Copy the targets of a scorer of the same kind over this one's, in place."""
        for (_, mine), (_, its) in zip(self._terms, other._terms, strict=True):
            assert isinstance(mine, TurnableScorer)  # all others have no kind
            mine.turn_to(its)


class Score(abc.ABC):
    """Rule that scores a layer's output for each of several targets.

    Attributes
    ----------
    runs_user_code
        Whether scoring calls functions of the user, which may do more than compute.
    compares_positions
        Whether each position of the output is compared with the same one of a photograph, which
        means little for crops.
    values_range
        (low, high) that the images must have, as a photograph had; None for any.
    """

    runs_user_code = False
    compares_positions = False
    values_range: tuple[float, float] | None = None

    @abc.abstractmethod
    def for_targets(self, targets: Sequence[Any]) -> Scorer:
        """Return the scorer of these targets, one image per target."""

    def takes_shape(self, shape: tuple[int, ...], usual: tuple[int, ...]) -> bool:
        """Whether targets mean the same in an output of another shape.

        Parameters
        ----------
        shape
            Of the layer's output for smaller images, without the batch.
        usual
            For images of the size that the network takes.
        """
        return shape == usual or not (self.runs_user_code or self.compares_positions)

    def unit(self, shape: tuple[int, ...]) -> float:  # noqa: ARG002
        """Return by how much a score grows when each activation of a target grows by 1.

        Parameters
        ----------
        shape
            Shape of the layer's output, without the batch.
        """
        return 1.0


class TurnableScorer(abc.ABC):
    """A scorer that can take over the targets of another one of its kind.

    Attributes
    ----------
    kind
        Scorers of the same kind differ in nothing but the numbers that their targets are. None:
        that cannot be known.
    """

    kind: Hashable

    @abc.abstractmethod
    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """Score outputs (N*K, ...): (N,)."""

    @abc.abstractmethod
    def turn_to(self, other: Any) -> None:
        """Copy the targets of a scorer of the same kind over this one's, in place."""


class TensorScore(Score):
    """A score whose targets are numbers, so that one scorer can turn to other targets."""

    @property
    @abc.abstractmethod
    def settings(self) -> Hashable:
        """All that the score depends on besides outputs and targets."""

    @abc.abstractmethod
    def encode(self, targets: Sequence[Any]) -> torch.Tensor:
        """Write N targets as one tensor (N, ...), on the CPU."""

    @abc.abstractmethod
    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score a layer's output (N*K, ...) for the targets (N, ...) that `encode` wrote."""

    def for_targets(self, targets: Sequence[Any]) -> "TargetScorer":
        """Return the scorer of these targets, one image per target."""
        return TargetScorer(self, targets)


class TargetScorer(TurnableScorer):
    """Scores a layer's output for targets, and can turn to others.

    Parameters
    ----------
    score
        The rule.
    targets
        As the rule takes them.
    """

    def __init__(self, score: TensorScore, targets: Sequence[Any]) -> None:
        self._score = score
        encoded = score.encode(targets)
        self._targets = OnDevice(encoded)
        self.kind = (type(score), score.settings, encoded.shape, encoded.dtype)

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """Score outputs (N*K, ...): (N,)."""
        return self._score.score(output, self._targets.on(output.device))

    def turn_to(self, other: "TargetScorer") -> None:
        """Copy the targets of a scorer of the same kind over this one's, in place."""
        self._targets.overwrite(other._targets)


class OnDevice:
    """A constant tensor, copied once to each device that asks for it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        if tensor.is_inference():  # of a user's inference mode: it would take no part in gradients
            with torch.inference_mode(False):
                tensor = tensor.clone()
        self._copies = {tensor.device: tensor}
        self._tensor = tensor

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the copy on a device."""
        if device not in self._copies:
            self._copies[device] = self._tensor.to(device)
        return self._copies[device]

    def overwrite(self, other: "OnDevice") -> None:
        """Copy the values of a tensor of the same shape over this one's, in place."""
        for copy in self._copies.values():
            copy.copy_(other._tensor)

    def __len__(self) -> int:
        """Return the size of the first dimension."""
        return len(self._tensor)


def by_image(output: torch.Tensor, count: int) -> torch.Tensor:
    """Split the batch by image: (N*K, ...) -> (N, K, ...)."""
    if output.shape[0] % count:
        raise ValueError(
            f"a batch of {output.shape[0]} samples cannot be shared by {count} combinations: "
            "expected a multiple."
        )
    return output.unflatten(0, (count, -1))
