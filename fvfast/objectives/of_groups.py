"""Objectives of several pictures: different ones of one unit, and paths between two units."""

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

from fvfast._shared.checks import check_count, check_finite
from fvfast.engine.network.layers import Layer, LayerSpec, Preprocess
from fvfast.objectives.combinations import Combinations
from fvfast.objectives.coupled_scores import AlignmentScore, CoupledScore, DiversityScore
from fvfast.objectives.mixed_scores import Share, SharedScore
from fvfast.objectives.on_layer import Names, on_layer
from fvfast.objectives.targets import find_channel_axis
from fvfast.objectives.weighted_terms import WeightedTerms

Groups = TypeVar("Groups", bound="ObjectivesOfGroups")


class ObjectivesOfGroups(WeightedTerms):
    """The ways to build an `fvfast.Objective` whose pictures belong together."""

    @classmethod
    def diversity(
        cls: type[Groups],
        model: nn.Module,
        layer: LayerSpec,
        images: int = 4,
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        channel_axis: int | None = None,
    ) -> Groups:
        """Push several pictures of the same unit apart, so that they show different facets of it.

        Added to an objective with N combinations it makes N groups of pictures. The score of a
        picture is 1 minus the mean cosine of its Gram matrix with those of the others of its group.
        The Gram matrix has the dot product of each pair of channels over all positions of all views
        of the picture; it describes textures, not where they are. Each cosine counts in the scores
        of two pictures, and its gradient reaches both.

        Parameters
        ----------
        model, layer, input_shape, preprocess
            See `Objective.layer`.
        images
            Pictures of each group, at least 2.
        multiplier
            Weight of the objective.
        names
            Names of the pictures of a group; default "1", "2" and so on.
        channel_axis
            See `Objective.channel`.

        Returns
        -------
        objective
            An objective with one combination per picture. It is meant for a sum:
            ``Objective.channel(model, "layer3", 5) + 2.0 * Objective.diversity(model, "layer2")``.

        Raises
        ------
        ValueError
            Unknown layer, fewer than two images, or an output with three axes or more whose axis of
            channels cannot be inferred.

        References
        ----------
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017, and Lucid.
        """
        count = check_count(images, "images", 2)

        def read_targets(found: Layer) -> tuple[list[int], CoupledScore, Names]:
            score = DiversityScore(find_channel_axis(found, channel_axis))
            return list(range(count)), score, _numbers(count) if names is None else names

        return on_layer(
            cls, "diversity", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @classmethod
    def alignment(
        cls: type[Groups],
        model: nn.Module,
        layer: LayerSpec,
        images: int = 4,
        multiplier: float = 1.0,
        names: Names = None,
        *,
        decay_ratio: float = 2.0,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> Groups:
        """Keep pictures alike that are near each other in a series.

        The score of a picture is minus half the sum of the mean squared differences of its
        activations from those of the pictures 1 to 4 places before and behind it, each divided by
        ``decay_ratio`` to the power of the distance. So the scores of a group add up to Lucid's
        objective, in which each pair counts once. The pictures of a group are drawn for one
        identity: they start alike, and are seen through the same crops with the same noise.

        Parameters
        ----------
        model, layer, input_shape, preprocess
            See `Objective.layer`.
        images
            Pictures of the series, at least 2.
        multiplier
            Weight of the objective.
        names
            Names of the places in the series; default "1", "2" and so on.
        decay_ratio
            How fast distant pairs stop to count; positive.

        Returns
        -------
        objective
            An objective with one combination per picture. `Objective.zipped` lays it over
            objectives that differ from picture to picture.

        Raises
        ------
        ValueError
            Unknown layer, fewer than two images, or a ratio that is not positive.

        References
        ----------
        Mordvintsev et al., "Differentiable Image Parameterizations", Distill 2018, and Lucid.
        """
        count = check_count(images, "images", 2)
        ratio = check_finite(decay_ratio, "decay_ratio")
        if ratio <= 0:
            raise ValueError(f"decay_ratio must be positive, got {ratio:g}.")

        def read_targets(_: Layer) -> tuple[list[int], CoupledScore, Names]:
            numbers = _numbers(count) if names is None else names
            return list(range(count)), AlignmentScore(ratio), numbers

        return on_layer(
            cls, "alignment", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @classmethod
    def interpolation(
        cls: type[Groups], first: WeightedTerms, last: WeightedTerms, images: int = 5
    ) -> Groups:
        """Go from one objective to another in equal steps.

        Picture i of n, from 0, maximizes 1 - i / (n - 1) times the first objective plus i / (n - 1)
        times the last one. Each picture is drawn on its own; `Objective.path` keeps them alike.

        Parameters
        ----------
        first, last
            Objectives with one combination each, of one model.
        images
            How many pictures, at least 2.

        Returns
        -------
        objective
            An objective with one combination per picture, with names such as
            "75 % Channel#3_5 & 25 % Channel#3_9".

        Raises
        ------
        TypeError
            ``first`` or ``last`` is not an objective.
        ValueError
            One of them has several combinations, they differ in model, input_shape or preprocess,
            or there are fewer than two images.
        """
        count = check_count(images, "images", 2)
        for name, end in (("first", first), ("last", last)):
            _check_end(name, end)
        both = first + last
        shares = [index / (count - 1) for index in range(count)]
        masks, names = [], []
        for term, pick in enumerate(both.combinations.picks[0].tolist()):
            target, label = both.masks[term][pick], both.names[term][pick]
            is_first = term < len(first.funcs)
            weights = [1 - share if is_first else share for share in shares]
            masks.append([Share(weight, target) for weight in weights])
            names.append([f"{_percent(weight, count)} {label}" for weight in weights])
        alone = Combinations.of_term(count, couples_images=False)
        return cls(
            both.model, both.layers, masks, [SharedScore(func) for func in both.funcs],
            both.multipliers, names,
            input_shape=None if both.is_of_any_shape else both.image_shape,
            preprocess=both.preprocess,
            combinations=functools.reduce(Combinations.beside, [alone] * len(both.funcs)),
        )  # fmt: skip

    @classmethod
    def path(
        cls: type[Groups],
        first: WeightedTerms,
        last: WeightedTerms,
        layer: LayerSpec,
        images: int = 5,
        alignment: float = 5e-4,
        *,
        decay_ratio: float = 2.0,
    ) -> Groups:
        """Go from one objective to another in pictures that change little from one to the next.

        It is `Objective.interpolation` with `Objective.alignment` laid over it. Names end in
        "& aligned".

        Parameters
        ----------
        first, last, images
            See `Objective.interpolation`.
        layer
            Layer whose activations are kept alike; see `Objective.layer`.
        alignment
            Weight of the alignment. The default suits scores that are divided by hundreds of
            channels or classes, as those of channels and logits are: with a larger weight the
            pictures become the same one.
        decay_ratio
            See `Objective.alignment`.

        Returns
        -------
        objective
            An objective with one combination per picture, which are drawn together.

        Raises
        ------
        TypeError, ValueError
            See `Objective.interpolation` and `Objective.alignment`; the objectives have no network.
        """
        series = cls.interpolation(first, last, images)
        if series.model is None:
            raise ValueError(
                "Objective.path: the objectives have no model, whose activations could be kept "
                "alike: give it to Objective.from_callable."
            )
        aligned = cls.alignment(
            series.model, layer, images, alignment, ["aligned"] * images, decay_ratio=decay_ratio,
            input_shape=series.image_shape, preprocess=series.preprocess,
        )  # fmt: skip
        return cls.zipped(series, aligned)

    @classmethod
    def zipped(cls: type[Groups], *objectives: WeightedTerms) -> Groups:
        """Add objectives combination by combination, where ``+`` adds each to each.

        Parameters
        ----------
        *objectives
            Objectives with equally many combinations, of one model. For example four channels and
            ``Objective.alignment(model, layer, images=4)`` make four pictures.

        Returns
        -------
        objective
            An objective with as many combinations: the first of all, the second of all, and so on.

        Raises
        ------
        TypeError
            One of them is not an objective.
        ValueError
            There is none, or they differ in the number of combinations, model, input_shape or
            preprocess.
        """
        for one in objectives:
            if not isinstance(one, cls):
                raise TypeError(f"Objective.zipped takes objectives, got {type(one).__name__}.")
        if not objectives:
            raise ValueError("Objective.zipped takes at least one objective, got none.")
        whole: Any = objectives[0]
        for one in objectives[1:]:
            whole = whole._with_terms(one, Combinations.beside)
        return whole


def _numbers(count: int) -> list[str]:
    return [str(index + 1) for index in range(count)]


def _percent(weight: float, count: int) -> str:
    """Write a weight with as many digits as tell the weights of so many pictures apart."""
    digits = max(1, len(str(count)) - 2)
    return f"{100 * weight:.{digits}f}".rstrip("0").rstrip(".") + " %"


def _check_end(name: str, end: object) -> None:
    if not isinstance(end, WeightedTerms):
        raise TypeError(f"{name} must be an Objective, got {type(end).__name__}.")
    if len(end.combinations) != 1:
        raise ValueError(
            f"{name} must have one combination, got {len(end.combinations)} "
            f"({', '.join(end.combination_names[:3])} ...)."
        )
