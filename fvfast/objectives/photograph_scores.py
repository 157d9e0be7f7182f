"""Scores that compare an image with a photograph, position by position of a layer."""

import abc
from collections.abc import Hashable, Sequence

import torch

from fvfast.losses import batched_dot_cossim
from fvfast.objectives.scores import TensorScore, by_image


class PhotographScore(TensorScore):
    """A score whose targets are activations of photographs, each of the layer's shape.

    Parameters
    ----------
    values_range
        (low, high) of the images that the network was shown.
    """

    compares_positions = True

    def __init__(self, values_range: tuple[float, float] | None) -> None:
        self.values_range = values_range

    def encode(self, targets: Sequence[torch.Tensor]) -> torch.Tensor:
        """Stack activations: (N, *shape)."""
        return torch.stack(list(targets)).float()

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score one photograph per image: the mean over its views."""
        values = by_image(output, len(targets)).float()  # (N, K, *shape)
        return self.compare(values, targets.unsqueeze(1)).mean(1)

    @abc.abstractmethod
    def compare(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score activations (N, K, *shape) by those of photographs (N, 1, *shape): (N, K)."""


class CaricatureScore(PhotographScore):
    """Dot product times a power of the cosine, at each position.

    Parameters
    ----------
    values_range
        See `PhotographScore`.
    channel_axis
        Of the layer's output, without the batch.
    cossim_pow
        Power of the cosine.
    """

    def __init__(
        self, values_range: tuple[float, float] | None, channel_axis: int, cossim_pow: float
    ) -> None:
        super().__init__(values_range)
        self.channel_axis = channel_axis
        self.cossim_pow = cossim_pow

    @property
    def settings(self) -> Hashable:
        """Axis and power."""
        return self.channel_axis, self.cossim_pow

    def compare(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean over the positions."""
        pair = (one.movedim(self.channel_axis + 2, -1) for one in (values, targets))
        mine, its = torch.broadcast_tensors(*pair)  # (N, K, *positions, C)
        # Each position is a batch of its own: there is nothing to sum over.
        mine, its = (one.flatten(0, -2).unsqueeze(1) for one in (mine, its))
        scores = batched_dot_cossim(mine, its, self.cossim_pow)
        return scores.reshape(*values.shape[:2], -1).mean(2)


class InversionScore(PhotographScore):
    """Minus the squared distance, over the squared norm of the photograph's activations."""

    @property
    def settings(self) -> Hashable:
        """Nothing."""
        return ()

    def compare(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the score of each view."""
        distances = (values - targets).flatten(2).square().sum(2)
        return -distances / targets.flatten(2).square().sum(2)
