"""Scores of several images together: how different they are, or how alike."""

import abc
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from fvfast.objectives.scores import OnDevice, Score, TurnableScorer, by_image

FARTHEST = 4
"""Images that are more than this far apart are not aligned with each other."""
_TINY = float(torch.finfo(torch.float32).tiny)


class CoupledScore(Score):
    """A score that depends on all images of a group: its targets are the places in the group.

    Each group of a batch has every target once, and no group is split between two batches, or
    between two passes through the network.

    Attributes
    ----------
    shares_views
        Whether the images of a group are drawn for one identity: they start alike, and in each step
        are seen through the same crops with the same noise.
    """

    shares_views = False

    @property
    @abc.abstractmethod
    def settings(self) -> Hashable:
        """All that the score depends on besides outputs and targets."""

    @abc.abstractmethod
    def score_groups(self, values: torch.Tensor) -> torch.Tensor:
        """Score G groups of M images.

        Parameters
        ----------
        values
            (G, M, K, ...), float32: a layer's output for the K views of each image, the images of a
            group in the order of their targets.

        Returns
        -------
        scores
            (G, M).
        """

    def for_targets(self, targets: Sequence[int]) -> "CoupledScorer":
        """Return the scorer of one group."""
        return self.for_groups(targets, [0] * len(targets))

    def for_groups(self, targets: Sequence[int], groups: Sequence[int]) -> "CoupledScorer":
        """Return the scorer of N images.

        Parameters
        ----------
        targets
            The place of each image in its group.
        groups
            Images with the same number are one group.
        """
        return CoupledScorer(self, targets, groups)


class CoupledScorer(TurnableScorer):
    """Scores images that belong together.

    Parameters
    ----------
    score
        The rule.
    targets, groups
        See `CoupledScore.for_groups`.
    """

    def __init__(self, score: CoupledScore, targets: Sequence[int], groups: Sequence[int]) -> None:
        self._score = score
        first = {group: index for index, group in reversed(list(enumerate(groups)))}
        order = sorted(range(len(targets)), key=lambda one: (first[groups[one]], targets[one]))
        self._groups = len(first)
        self._is_in_order = order == list(range(len(targets)))
        index = torch.tensor(order, dtype=torch.int64, device="cpu")
        self._order, self._place = OnDevice(index), OnDevice(index.argsort())
        # Which images belong together does not depend on the numbers in a layer: it is not turned.
        self.kind = (type(score), score.settings, self._groups, tuple(order))

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """Score outputs (N*K, ...): (N,)."""
        # Autocast would round products of matrices, whose small differences count here.
        with torch.autocast(output.device.type, enabled=False):
            values = by_image(output, len(self._order)).float()
            if not self._is_in_order:
                values = values[self._order.on(output.device)]
            scores = self._score.score_groups(values.unflatten(0, (self._groups, -1))).flatten()
            return scores if self._is_in_order else scores[self._place.on(output.device)]

    def turn_to(self, other: Any) -> None:
        """Do nothing: scorers of one kind are the same."""


class DiversityScore(CoupledScore):
    """How little the images of a group are alike, as Gram matrices of a layer tell.

    Parameters
    ----------
    channel_axis
        Of the layer's output, without the batch.
    """

    def __init__(self, channel_axis: int) -> None:
        self.channel_axis = channel_axis

    @property
    def settings(self) -> int:
        """The axis of the channels."""
        return self.channel_axis

    def score_groups(self, values: torch.Tensor) -> torch.Tensor:
        """Return 1 minus the mean cosine of each image's Gram matrix with those of the others."""
        # (G, M, C, positions of all views)
        rows = values.movedim(self.channel_axis + 3, 2).flatten(3)
        if rows.ndim == 3:
            rows = rows.unsqueeze(3)
        # Scaled first, which changes no cosine: squares of squares leave float32's range.
        rows = rows / rows.detach().abs().amax((2, 3), keepdim=True).clamp(min=_TINY)
        grams = normalize((rows @ rows.transpose(2, 3)).flatten(2), dim=2)  # (G, M, C * C)
        cosines = grams @ grams.transpose(1, 2)
        images = cosines.shape[1]
        others = cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)
        return 1 - others / (images - 1)


class AlignmentScore(CoupledScore):
    """How close the activations of images are that are near each other in their group.

    Parameters
    ----------
    decay_ratio
        Pairs count less by this factor with each image that they are farther apart.
    """

    shares_views = True

    def __init__(self, decay_ratio: float) -> None:
        self.decay_ratio = decay_ratio

    @property
    def settings(self) -> float:
        """The factor."""
        return self.decay_ratio

    def score_groups(self, values: torch.Tensor) -> torch.Tensor:
        """Return minus the half of each pair's mean squared difference, summed over an image's."""
        flat = values.flatten(2)  # (G, M, K * elements)
        images = flat.shape[1]
        scores = flat.new_zeros(flat.shape[:2])
        for distance in range(1, min(FARTHEST, images - 1) + 1):
            squared = (flat[:, distance:] - flat[:, :-distance]).square().mean(2)
            half = squared / (2 * self.decay_ratio**distance)
            scores = scores - torch.cat((half, half.new_zeros(len(half), distance)), dim=1)
            scores = scores - torch.cat((half.new_zeros(len(half), distance), half), dim=1)
        return scores
