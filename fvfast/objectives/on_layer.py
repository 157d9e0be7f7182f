"""Builds objectives with one sub-objective, which reads a layer."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from fvfast._shared.checks import is_number
from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.layers import Layer, LayerSpec, Preprocess
from fvfast.objectives.input_shape import layer_and_shape
from fvfast.objectives.scores import Score
from fvfast.objectives.weighted_terms import Terms

Names = str | Sequence[str] | None
"""Names of targets, as a user gives them."""


def on_layer(
    kind: type[Terms],
    function: str,
    model: nn.Module,
    layer: LayerSpec,
    multiplier: float,
    input_shape: Sequence[int] | None,
    preprocess: Preprocess | None,
    read_targets: Callable[[Layer], tuple[list[Any], Score, Names]],
) -> Terms:
    """Build an objective whose targets depend on the layer's shape.

    Parameters
    ----------
    kind
        Class of the objective.
    function
        Method of it that the user called, for messages.
    model, layer, multiplier, input_shape, preprocess
        See `fvfast.Objective.layer`.
    read_targets
        Returns targets of the layer, the score that takes them, and their names.
    """
    if not is_number(multiplier):
        raise TypeError(
            f"Objective.{function}: multiplier must be a number, got {multiplier!r}. Arguments "
            "after the targets are best named, as in names=[...]."
        )
    network = unwrap(model)
    found, shape = layer_and_shape(function, network, layer, input_shape, preprocess)
    targets, score, names = read_targets(found)
    return kind(
        network, [found], [targets], [score], [multiplier], [names or []],
        input_shape=shape, preprocess=preprocess,
    )  # fmt: skip
