"""How the output of a layer becomes the score of an objective.

A `Score` takes its targets once (channels, neurons, directions, ...) and returns a function, the
scorer, from a layer's output to one number per target. Targets are read by index: no mask of the
layer's shape is ever built.

The output's batch holds the views of all images, image after image: (N*K, ...) for N targets with K
views each. Scales are those of Xplique: means run over *all* elements of the layer, also those that
the target leaves out.
"""

import abc
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, get_args

import torch

from fvfast.engine.borrowing.lending import Lender
from fvfast.losses import batched_dot_cossim

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
        kinds = [scorer.kind for scorer in scorers if isinstance(scorer, TargetScorer)]
        known = len(kinds) == len(scorers)
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
            assert isinstance(mine, TargetScorer)  # all others have no kind
            assert isinstance(its, TargetScorer)
            mine.turn_to(its)


class Score(abc.ABC):
    """Rule that scores a layer's output for each of several targets.

    Attributes
    ----------
    runs_user_code
        Whether scoring calls functions of the user, which may do more than compute.
    """

    runs_user_code = False

    @abc.abstractmethod
    def for_targets(self, targets: Sequence[Any]) -> Scorer:
        """Return the scorer of these targets, one image per target."""

    def unit(self, shape: tuple[int, ...]) -> float:  # noqa: ARG002
        """Return by how much a score grows when each activation of a target grows by 1.

        Parameters
        ----------
        shape
            Shape of the layer's output, without the batch.
        """
        return 1.0


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


class TargetScorer:
    """Scores a layer's output for targets, and can turn to others.

    Attributes
    ----------
    kind
        Scorers of the same kind differ in nothing but the numbers that their targets are.

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
        self.kind: Hashable = (type(score), score.settings, encoded.shape, encoded.dtype)

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """Score outputs (N*K, ...): (N,)."""
        return self._score.score(output, self._targets.on(output.device))

    def turn_to(self, other: "TargetScorer") -> None:
        """Copy the targets of a scorer of the same kind over this one's, in place."""
        self._targets.overwrite(other._targets)


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


class CallableScore(Score):
    """Scores images with functions of the user: each target is a function.

    Parameters
    ----------
    dtype
        Type of the images that the functions take.
    """

    runs_user_code = True

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def for_targets(self, targets: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> Scorer:
        """Score each image's views with its function."""
        functions = list(targets)
        lender = Lender()

        def score(images: torch.Tensor) -> torch.Tensor:
            with lender.lent(images.to(self.dtype)) as lent:
                views = by_image(lent, len(functions))  # (N, K, C, H, W)
                return torch.stack(
                    [_mean_score(f(views[n]), views.shape[1]) for n, f in enumerate(functions)]
                )

        return score


class MaskScore(Score):
    """Xplique's form of a score: ``func(outputs, mask)`` with a mask of the layer's shape.

    Parameters
    ----------
    func
        Takes outputs (K, ...) and a mask (1, ...), returns a scalar or one score per sample (K,).
    """

    runs_user_code = True

    def __init__(self, func: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.func = func

    def for_targets(self, targets: Sequence[Any]) -> Scorer:
        """Score each image's views with its mask."""
        masks = [OnDevice(torch.as_tensor(mask, device="cpu").detach()) for mask in targets]

        def score(output: torch.Tensor) -> torch.Tensor:
            values = by_image(output, len(masks)).float()
            scores = [
                self.func(values[n], mask.on(output.device).to(values.dtype).unsqueeze(0))
                for n, mask in enumerate(masks)
            ]
            return torch.stack([_mean_score(value, values.shape[1]) for value in scores])

        return score


class OnDevice:
    """A constant tensor, copied once to each device that asks for it."""

    def __init__(self, tensor: torch.Tensor) -> None:
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


def by_image(output: torch.Tensor, count: int) -> torch.Tensor:
    """Split the batch by image: (N*K, ...) -> (N, K, ...)."""
    if output.shape[0] % count:
        raise ValueError(
            f"a batch of {output.shape[0]} samples cannot be shared by {count} combinations: "
            "expected a multiple."
        )
    return output.unflatten(0, (count, -1))


def _mean_score(value: torch.Tensor | float | None, views: int) -> torch.Tensor:
    """Average what a user's function returned: a scalar, or one score per view."""
    if value is None:
        raise TypeError(
            "the score function returned None; expected a scalar or one score per image."
        )
    if not isinstance(value, torch.Tensor):
        value = torch.tensor(value, dtype=torch.float32, device="cpu")
    if value.is_complex():
        raise TypeError(
            f"the score function returned complex numbers ({value.dtype}), which have no order; "
            "return torch.abs(...) or the real part of them."
        )
    if value.ndim > 1 and value.numel() == views:
        value = value.flatten()
    if value.ndim > 1 or (value.ndim == 1 and len(value) != views):
        raise ValueError(
            f"the score function returned shape {tuple(value.shape)} for {views} images; expected "
            f"a scalar or one score per image, ({views},)."
        )
    return value.float().mean()
