"""Scores of a layer, its channels, neurons and directions: numbers that torch computes."""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch

from fvfast.losses import batched_dot_cossim
from fvfast.objectives.scores import TensorScore, by_image

Reducer = Literal["magnitude", "mean"]


class LayerScore(TensorScore):
    """Mean of a whole layer, or mean of its squares.

    Parameters
    ----------
    reducer
        "magnitude" for the mean of squares (as Xplique computes it), "mean" for the mean.
    """

    def __init__(self, reducer: Reducer = "magnitude") -> None:
        if reducer not in get_args(Reducer):
            raise ValueError(f"reducer must be 'magnitude' or 'mean', got {reducer!r}.")
        self.reducer = reducer

    @property
    def settings(self) -> str:
        """The reducer."""
        return self.reducer

    def encode(self, targets: Sequence[Any]) -> torch.Tensor:
        """Return an empty row for each target, (N, 0): a whole layer needs no more."""
        return torch.empty(len(targets), 0, device="cpu")

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score the layer once per target."""
        values = by_image(output, len(targets)).flatten(1)  # (N, K * elements)
        if self.reducer == "mean":
            return values.float().mean(1)
        means: torch.Tensor = _MeanSquare.apply(values)
        return means


class _MeanSquare(torch.autograd.Function):
    """Mean of squares over the last dimension, (N, M) -> (N,).

    The score of a whole layer passes over all of it: here the score takes one pass over memory and
    its gradient another, where autograd's own take six.
    """

    ROW = 256  # elements that are added up in float32, in a few lanes

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values)
        row = _MeanSquare.ROW
        whole = values.shape[1] - values.shape[1] % row
        wide = values.float()
        norms = [
            torch.linalg.vector_norm(part, dim=-1).reshape(len(values), -1)
            for part in (wide[:, :whole].unflatten(1, (-1, row)), wide[:, whole:])
        ]
        return torch.cat(norms, dim=1).square().sum(1) / values.shape[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (values,) = ctx.saved_tensors
        scale = gradients[0] * (2 / values.shape[1])
        return values * scale.to(values.dtype).unsqueeze(1)


class ElementScore(TensorScore):
    """Mean of the elements at an index of each sample's output, over the size of that output.

    Parameters
    ----------
    axes
        The axes of the output (without batch) that a target's coordinates address: one axis for a
        channel, all of them for a neuron.
    """

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    @property
    def settings(self) -> tuple[int, ...]:
        """The axes."""
        return self.axes

    def takes_shape(self, shape: tuple[int, ...], usual: tuple[int, ...]) -> bool:
        """Whether coordinates mean the same: a channel's do, those of a position do not."""
        kept = all(shape[axis] == usual[axis] for axis in self.axes)
        return shape == usual or (kept and len(self.axes) < len(usual))

    def unit(self, shape: tuple[int, ...]) -> float:
        """Return the share of a target's elements in the layer."""
        return 1 / math.prod(shape[axis] for axis in self.axes)

    def encode(self, targets: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Write tuples of non-negative coordinates, one per axis: (N, axes)."""
        return torch.tensor(targets, dtype=torch.int64, device="cpu").reshape(
            len(targets), len(self.axes)
        )

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score one element, or one slice of elements, per image."""
        count = len(targets)
        values = by_image(output, count)  # (N, K, *shape)
        values = values.movedim(
            [axis + 2 for axis in self.axes], list(range(2, 2 + len(self.axes)))
        )
        image = torch.arange(count, device=output.device)
        # The slice between the indices puts the images first: (N, K, *other axes).
        index: tuple[Any, ...] = (image, slice(None), *targets.unbind(1))
        selected = values[index].flatten(1).float()
        share = selected[0].numel() / values[0].numel()
        return selected.mean(1) * share


class DirectionScore(TensorScore):
    """Dot product times a power of the cosine similarity (`fvfast.losses.dot_cossim`).

    The dot products are summed over an image's views, as Xplique sums them over its batch; images
    do not interact.

    Parameters
    ----------
    cossim_pow
        Power of the cosine similarity.
    """

    def __init__(self, cossim_pow: float = 2.0) -> None:
        self.cossim_pow = cossim_pow

    @property
    def settings(self) -> float:
        """The power."""
        return self.cossim_pow

    def encode(self, targets: Sequence[torch.Tensor]) -> torch.Tensor:
        """Stack vectors that broadcast to the layer's output: (N, *shape)."""
        return torch.stack(list(targets)).float()

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Score one direction per image."""
        values = by_image(output, len(targets)).float()  # (N, K, *shape)
        directions = targets.unsqueeze(1).expand_as(values)
        return batched_dot_cossim(values, directions, self.cossim_pow).mean(1)
