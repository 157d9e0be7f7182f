"""The shape of the images of an objective: given, declared by the network, or found by trying."""

import operator
from collections.abc import Callable, Sequence

import torch
from torch import nn

from fvfast.engine.network.inputs import declared_size, find_input_shape
from fvfast.engine.network.layers import Layer, LayerSpec, Preprocess, find_layer
from fvfast.engine.network.probe import UnsuitableImagesError, find_working_shape, run_probe

_COLORS = (1, 3)
"""Usual numbers of channels: of gray and of colored images."""


def checked_input_shape(
    input_shape: Sequence[int] | None, model: nn.Module | None
) -> tuple[int, int, int]:
    """Return a shape that a user gave, or the one that the network declares or that is usual.

    Raises
    ------
    ValueError
        It is not three integers of at least 1.
    """
    if input_shape is None:
        return find_input_shape(model)
    try:
        channels, height, width = (operator.index(size) for size in input_shape)
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise ValueError(
            "input_shape must be (C, H, W) of one image, three integers of at least 1 such as "
            f"(3, 224, 224); got {input_shape!r}."
        )
    return channels, height, width


def layer_and_shape(
    function: str,
    network: nn.Module,
    layer: LayerSpec,
    input_shape: Sequence[int] | None,
    preprocess: Preprocess | None,
) -> tuple[Layer, tuple[int, int, int]]:
    """Find a layer, and the shape of the images.

    Parameters
    ----------
    function
        Method of `Objective` that the user called, for messages.
    network, layer, input_shape, preprocess
        See `Objective`. Without a shape, that which the network declares; if it declares none,
        shapes are tried.

    Raises
    ------
    ValueError
        The network does not run on images of this shape, or of any that was tried.
    """
    shape = checked_input_shape(input_shape, network)
    try:
        return find_layer(network, layer, shape, preprocess), shape
    except UnsuitableImagesError as error:
        is_guess = input_shape is None and declared_size(network) is None
        working = find_working_shape(network, shape, preprocess) if is_guess else None
        if working is None:
            raise _unsuitable(error, function, shape) from error.__cause__
        return find_layer(network, layer, working, preprocess), working


def shape_for_functions(
    network: nn.Module,
    functions: Sequence[Callable[[torch.Tensor], object]],
    input_shape: Sequence[int] | None,
    preprocess: Preprocess | None,
) -> tuple[int, int, int]:
    """Find the shape of the images that functions of the user score by a network.

    Shapes are tried where the network declares none and does not run on the usual one. The
    functions decide: they may resize their images, or call a part of the network.

    Parameters
    ----------
    network, input_shape, preprocess
        See `Objective`.
    functions
        Functions from images (K, C, H, W) to scores.

    Raises
    ------
    ValueError
        The functions run on none of the shapes that were tried.
    """
    shape = checked_input_shape(input_shape, network)
    if input_shape is not None or declared_size(network) is not None:
        return shape
    try:
        run_probe(network, shape, preprocess)
        return shape
    except UnsuitableImagesError:
        scored = _Scored(network, functions)
    working = find_working_shape(scored, shape, preprocess)
    if working is not None:
        return working
    names = ", ".join(getattr(one, "__name__", type(one).__name__) for one in functions)
    try:
        run_probe(scored, shape, preprocess, what=f"the function ({names})")
    except UnsuitableImagesError as error:
        raise _unsuitable(error, "from_callable", shape) from error.__cause__
    return shape


class _Scored(nn.Module):
    """Functions of the user as one module, with the network that they run."""

    def __init__(
        self, network: nn.Module, functions: Sequence[Callable[[torch.Tensor], object]]
    ) -> None:
        super().__init__()
        self.network = network
        self._functions = functions

    def forward(self, images: torch.Tensor) -> None:
        # As in a run: a function may take gradients of its own.
        with torch.enable_grad():
            for function in self._functions:
                function(images.detach().requires_grad_())


def _unsuitable(
    error: UnsuitableImagesError, function: str, shape: tuple[int, int, int]
) -> ValueError:
    first, second, last = shape
    if last in _COLORS and first not in _COLORS:
        advice = f"Channels come first: input_shape=({last}, {first}, {second})?"
    else:
        advice = f"For example: Objective.{function}(..., input_shape=(1, 28, 28))."
    return ValueError(f"{error} {advice}")
