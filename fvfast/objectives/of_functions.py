"""Objectives that functions of the user compute."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.input_type import input_dtype
from fvfast.engine.network.layers import IMAGES, Preprocess
from fvfast.objectives.function_scores import CallableScore
from fvfast.objectives.input_shape import checked_input_shape, shape_for_functions
from fvfast.objectives.on_layer import Names
from fvfast.objectives.weighted_terms import Terms, WeightedTerms


class ObjectivesOfFunctions(WeightedTerms):
    """The way to build an `fvfast.Objective` of any function of the images."""

    @classmethod
    def from_callable(
        cls: type[Terms],
        model: nn.Module | None,
        f: Callable[[torch.Tensor], torch.Tensor]
        | Sequence[Callable[[torch.Tensor], torch.Tensor]],
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> Terms:
        """Maximize any function of the images.

        Parameters
        ----------
        model
            The network that the function runs, so that it is frozen, put in evaluation mode and
            restored; or None.
        f
            Function, or list of functions, from images (K, C, H, W) to a scalar or K scores.
        multiplier
            Weight of the objective.
        names
            Names; default "Callable#<name of the function>".
        input_shape, preprocess
            See `Objective`. Without a shape, and with a network that declares none and does not run
            on images of 224 x 224, the function is tried on images of usual shapes.

        Returns
        -------
        objective
            An objective with one combination per function.

        Raises
        ------
        TypeError
            ``f`` is not a function.
        ValueError
            The function runs on none of the shapes that were tried.
        """
        functions = list(f) if isinstance(f, Sequence) else [f]
        for function in functions:
            if not callable(function):
                raise TypeError(
                    f"f must be a function from images to scores, got {type(function).__name__}."
                )
        if names is None:
            names = [
                f"Callable#{getattr(function, '__name__', type(function).__name__)}"
                for function in functions
            ]
        network = unwrap(model) if model is not None else None
        if network is not None:
            input_shape = shape_for_functions(network, functions, input_shape, preprocess)
        image = torch.zeros(1, *checked_input_shape(input_shape, network))
        return cls(
            model, [IMAGES], [functions], [CallableScore(input_dtype(network, image))],
            [multiplier], [names],
            input_shape=input_shape, preprocess=preprocess,
        )  # fmt: skip
