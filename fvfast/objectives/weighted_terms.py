"""What an objective is: a weighted sum of sub-objectives, its algebra, and its scores."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from fvfast._shared.checks import is_number
from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.layers import Layer, LayerSpec, Preprocess, find_layer
from fvfast.engine.taps import TappedModel
from fvfast.objectives.combinations import Combinations
from fvfast.objectives.coupled_scores import CoupledScore
from fvfast.objectives.function_scores import MaskScore
from fvfast.objectives.input_shape import checked_input_shape
from fvfast.objectives.scores import Score, Scorer, WeightedSum

Terms = TypeVar("Terms", bound="WeightedTerms")


class WeightedTerms:
    """A weighted sum of sub-objectives: `fvfast.Objective` without the ways to build one.

    Parameters
    ----------
    model, layers, masks, funcs, multipliers, names, input_shape, preprocess, combinations
        See `fvfast.Objective`.
    """

    def __init__(
        self,
        model: nn.Module | None,
        layers: Sequence[LayerSpec | Layer],
        masks: Sequence[Sequence[Any]],
        funcs: Sequence[Callable[..., torch.Tensor] | Score],
        multipliers: Sequence[float],
        names: Sequence[str | Sequence[str]],
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        combinations: Combinations | None = None,
    ) -> None:
        self.model = unwrap(model) if model is not None else None
        # A function alone does not tell the shape of its images.
        self.is_of_any_shape = model is None and input_shape is None
        self.image_shape = checked_input_shape(input_shape, self.model)
        self.preprocess = preprocess
        self.layers = [
            layer if isinstance(layer, Layer) else self._find_layer(layer) for layer in layers
        ]
        self.masks = [list(targets) for targets in masks]
        self.funcs = [func if isinstance(func, Score) else MaskScore(func) for func in funcs]
        self.multipliers = [float(multiplier) for multiplier in multipliers]
        self.names = [[name] if isinstance(name, str) else list(name) for name in names]
        self._check()
        self.combinations = self._all_combinations() if combinations is None else combinations

    def _find_layer(self, layer: LayerSpec) -> Layer:
        if self.model is None:
            raise ValueError("an objective on a layer needs a model, got model=None.")
        return find_layer(self.model, layer, self.image_shape, self.preprocess)

    def _check(self) -> None:
        counts = {
            "layers": len(self.layers),
            "masks": len(self.masks),
            "funcs": len(self.funcs),
            "multipliers": len(self.multipliers),
            "names": len(self.names),
        }
        if len(set(counts.values())) > 1 or not self.layers:
            raise ValueError(f"each list needs one entry per sub-objective, got {counts}.")
        for targets, names in zip(self.masks, self.names, strict=True):
            if not targets:
                raise ValueError("a sub-objective needs at least one target, got none.")
            for name in names:
                if not isinstance(name, str):
                    raise TypeError(f"names must be strings, got {name!r}.")
            if len(targets) != len(names):
                raise ValueError(
                    f"expected one name per target: {len(targets)} targets, {len(names)} names "
                    f"({names})."
                )
        for multiplier in self.multipliers:
            if not math.isfinite(multiplier):
                raise ValueError(f"multipliers must be finite, got {multiplier}.")

    def _all_combinations(self) -> Combinations:
        """Combine each target of one sub-objective with each of the others."""
        terms = [
            Combinations.of_term(len(targets), couples_images=isinstance(func, CoupledScore))
            for targets, func in zip(self.masks, self.funcs, strict=True)
        ]
        whole = terms[0]
        for term in terms[1:]:
            whole = whole.times(term)
        return whole

    # Algebra

    def _weighted(self: Terms, factor: float) -> Terms:
        return type(self)(
            self.model, self.layers, self.masks, self.funcs,
            [multiplier * factor for multiplier in self.multipliers], self.names,
            input_shape=self.image_shape, preprocess=self.preprocess,
            combinations=self.combinations,
        )  # fmt: skip

    def _with_terms(
        self: Terms,
        term: "WeightedTerms",
        combine: Callable[[Combinations, Combinations], Combinations],
    ) -> Terms:
        """Return the sum with another objective, of which some combinations are made."""
        any_model = self.model is None or term.model is None
        any_shape = self.is_of_any_shape or term.is_of_any_shape
        for what, mine, other, free in (
            ("model", self.model, term.model, any_model),
            ("input_shape", self.image_shape, term.image_shape, any_shape),
            ("preprocess", self.preprocess, term.preprocess, False),
        ):
            if mine != other and not free:
                raise ValueError(
                    f"objectives can be combined only when they have the same {what}; got "
                    f"{_told_apart(mine, other)}."
                )
        return type(self)(
            self.model if self.model is not None else term.model,
            self.layers + term.layers,
            self.masks + term.masks,
            self.funcs + term.funcs,
            self.multipliers + term.multipliers,
            self.names + term.names,
            input_shape=term.image_shape if self.is_of_any_shape else self.image_shape,
            preprocess=self.preprocess,
            combinations=combine(self.combinations, term.combinations),
        )

    def __add__(self: Terms, term: "WeightedTerms") -> Terms:
        if not isinstance(term, WeightedTerms):
            return NotImplemented
        return self._with_terms(term, Combinations.times)

    def __radd__(self: Terms, start: object) -> Terms:
        # sum() starts from 0.
        return self if isinstance(start, int) and start == 0 else NotImplemented

    def __neg__(self: Terms) -> Terms:
        return self._weighted(-1.0)

    def __sub__(self: Terms, term: "WeightedTerms") -> Terms:
        return self + (-term) if isinstance(term, WeightedTerms) else NotImplemented

    def __mul__(self: Terms, factor: float) -> Terms:
        return self._weighted(float(factor)) if is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self: Terms, divisor: float) -> Terms:
        return self._weighted(1.0 / float(divisor)) if is_number(divisor) else NotImplemented

    def __repr__(self) -> str:
        terms = (
            f"{multiplier:+g} * {names[0] if len(names) == 1 else f'{names[0]} ... {names[-1]}'}"
            for multiplier, names in zip(self.multipliers, self.names, strict=True)
        )
        return f"{type(self).__name__}({' '.join(terms)})"

    # What a run asks

    @property
    def combination_names(self) -> list[str]:
        """Names of all combinations of targets, in the order of their pictures."""
        return self._names_of(range(len(self.combinations)))

    def _names_of(self, combinations: Sequence[int]) -> list[str]:
        return [
            # A sub-objective whose name is empty leaves none.
            " & ".join(
                names[pick] for names, pick in zip(self.names, picks, strict=True) if names[pick]
            )
            for picks in self.combinations.picks[list(combinations)].tolist()
        ]

    @property
    def unit(self) -> float:
        """By how much the score grows when each activation that it reads grows by 1."""
        return sum(
            abs(multiplier) * func.unit(layer.shape)
            for multiplier, func, layer in zip(
                self.multipliers, self.funcs, self.layers, strict=True
            )
        )

    @property
    def group_size(self) -> int:
        """How many pictures, next to each other, are scored together and so drawn together."""
        return self.combinations.group_size

    @property
    def runs_user_code(self) -> bool:
        """Whether scoring calls functions of the user."""
        return any(func.runs_user_code for func in self.funcs)

    @property
    def compares_positions(self) -> bool:
        """Whether images are compared with photographs position by position."""
        return any(func.compares_positions for func in self.funcs)

    @property
    def values_ranges(self) -> set[tuple[float, float]]:
        """The ranges (low, high) of values that photographs were shown in."""
        return {func.values_range for func in self.funcs if func.values_range is not None}

    def seed_names(self, combinations: Sequence[int]) -> list[str]:
        """Return the names that decide the random numbers of the pictures of some combinations.

        Each picture has its own, unless those of a group are to be seen through the same views:
        then it is the name of the first one.
        """
        if any(isinstance(func, CoupledScore) and func.shares_views for func in self.funcs):
            combinations = [row - row % self.group_size for row in combinations]
        return self._names_of(combinations)

    def compile(
        self, combinations: Sequence[int] | None = None
    ) -> tuple[
        TappedModel,
        WeightedSum,
        list[str],
        tuple[int, int, int, int],
    ]:
        """Turn the objective into what an optimization needs.

        Parameters
        ----------
        combinations
            Indices of the combinations to compile; default all.

        Returns
        -------
        model_reconfigured
            Maps views (N*K, C, H, W) to a list with the output of each sub-objective's layer.
        objective_function
            Maps that list to float32 scores (N,): the weighted sum of the sub-objectives for each
            combination, averaged over its K views, which stand next to each other in the batch.
        names
            The N names.
        input_shape
            (N, C, H, W): one image per combination.
        """
        chosen = range(len(self.combinations)) if combinations is None else combinations
        model_reconfigured = TappedModel(self.model, self.layers, self.preprocess)
        input_shape = (len(chosen), *self.image_shape)
        return model_reconfigured, self.scorer(chosen), self._names_of(chosen), input_shape

    def scorer(self, combinations: Sequence[int]) -> WeightedSum:
        """Return the function that scores some combinations.

        Parameters
        ----------
        combinations
            Indices of N combinations: all of a group, or none.

        Returns
        -------
        objective_function
            See `compile`.

        Raises
        ------
        ValueError
            A combination is scored together with others, which are missing.
        """
        return WeightedSum(
            self.multipliers,
            [self._scorer_of(term, combinations) for term in range(len(self.funcs))],
        )

    def _scorer_of(self, term: int, combinations: Sequence[int]) -> Scorer:
        func, targets = self.funcs[term], self.masks[term]
        picked = self.combinations.picks[list(combinations), term].tolist()
        chosen = [targets[pick] for pick in picked]
        if isinstance(func, CoupledScore):
            return func.for_groups(chosen, self.combinations.partners_of(combinations, term))
        return func.for_targets(chosen)


def _told_apart(first: object, second: object) -> str:
    """Describe two different values, which may look alike."""
    shown = [
        type(one).__name__ if isinstance(one, nn.Module) else repr(one) for one in (first, second)
    ]
    if shown[0] != shown[1]:
        return f"{shown[0]} and {shown[1]}"
    return f"two different objects, both {shown[0]}: make one, and give it to both objectives"
