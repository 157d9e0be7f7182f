"""Objectives on the units of a layer: the whole layer, directions, channels and neurons."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.layers import Layer, LayerSpec, Preprocess
from fvfast.files.dictionaries import Dictionary
from fvfast.objectives.layer_scores import DirectionScore, ElementScore, LayerScore, Reducer
from fvfast.objectives.on_layer import Names, on_layer
from fvfast.objectives.scores import Score
from fvfast.objectives.targets import (
    Ids,
    Units,
    as_ids,
    as_units,
    check_index,
    find_channel_axis,
    named_classes,
    neuron_coordinates,
    position_of,
    read_directions,
)
from fvfast.objectives.weighted_terms import Terms, WeightedTerms


class ObjectivesOfUnits(WeightedTerms):
    """The ways to build an `fvfast.Objective` that reads units of a layer."""

    @classmethod
    def layer(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        reducer: Reducer = "magnitude",
        multiplier: float = 1.0,
        name: str | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> Terms:
        """Maximize a whole layer (DeepDream).

        Parameters
        ----------
        model
            The network.
        layer
            Dotted name; index in the order in which the network calls its leaf modules (-1 is the
            last); the module; or (one of these, key) to read one entry of a tuple or mapping
            output. A layer that the network calls several times is read at its last call. Names
            may begin as those of a wrapped model do (``module.``, ``_orig_mod.``).
        reducer
            "magnitude" maximizes the mean of the squared activations, "mean" their mean.
        multiplier
            Weight of the objective.
        name
            Name of the objective; default "Layer#<layer>".
        input_shape, preprocess
            See `Objective`.

        Returns
        -------
        objective
            An objective with one combination.

        Raises
        ------
        ValueError
            Unknown layer or reducer.
        """
        return on_layer(
            cls, "layer", model, layer, multiplier, input_shape, preprocess,
            lambda found: (
                [None], LayerScore(reducer), name if name is not None else f"Layer#{found.name}"
            ),
        )  # fmt: skip

    @classmethod
    def direction(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        vectors: Any,
        multiplier: float = 1.0,
        cossim_pow: float = 2.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        channel_axis: int | None = None,
    ) -> Terms:
        """Maximize a direction of a layer: dot product times cosine similarity to a power.

        Parameters
        ----------
        model, layer, multiplier, input_shape, preprocess
            See `Objective.layer`.
        vectors
            One vector (tensor or array), or several: a list or tuple of vectors, an array (N, C),
            such as ``coef_`` of scikit-learn's linear models, or a dictionary that
            `fvfast.files.dictionaries.read_dictionary` has read. A vector has the shape of the
            layer's output, or (C,): then it is the direction of the channels at every position.
        cossim_pow
            Power of the cosine similarity; higher values care more about the angle.
        names
            Names of the directions; default those of a dictionary, or "Direction#<layer>_<i>".
        channel_axis
            See `Objective.channel`.

        Returns
        -------
        objective
            An objective with one combination per vector.

        Raises
        ------
        ValueError
            Unknown layer, a vector of another shape or width, or one that is zero or not finite.

        References
        ----------
        Lucid, https://github.com/tensorflow/lucid/issues/116.
        """

        def read_targets(found: Layer) -> tuple[list[torch.Tensor], Score, Names]:
            axis = find_channel_axis(found, channel_axis)
            directions = read_directions(vectors, found, axis)
            given = names
            if given is None and isinstance(vectors, Dictionary) and vectors.names is not None:
                given = vectors.names
            default = [f"Direction#{found.name}_{i}" for i in range(len(directions))]
            return directions, DirectionScore(cossim_pow), default if given is None else given

        return on_layer(
            cls, "direction", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @classmethod
    def channel(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        channel_ids: Ids | Literal["all"] | None = None,
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        channel_axis: int | None = None,
    ) -> Terms:
        """Maximize channels of a layer: the mean activation over all positions.

        The score is the mean over *all* elements of the layer with the other channels at zero, as
        in Xplique: the mean activation of the channel divided by the number of channels.

        Parameters
        ----------
        model, layer, multiplier, input_shape, preprocess
            See `Objective.layer`.
        channel_ids
            One index, or several (list, tuple, range, array). Negative ones count from the end.
            Default, or "all": all channels of the layer.
        names
            Names of the channels; default "Channel#<layer>_<id>".
        channel_axis
            Axis of the channels in the layer's output, without the batch. Default: inferred
            from the layers around, such as the first one for convolutions (C, H, W) and the last
            one for linear layers and layer normalizations: tokens (T, C), or (H, W, C) of a Swin
            transformer.

        Returns
        -------
        objective
            An objective with one combination per channel.

        Raises
        ------
        ValueError
            Unknown layer, an index out of range, or an output with three axes or more whose axis of
            channels cannot be inferred.
        """

        def read_targets(found: Layer) -> tuple[list[tuple[int]], Score, Names]:
            axis = find_channel_axis(found, channel_axis)
            chosen: Any = range(found.shape[axis]) if _is_all(channel_ids) else channel_ids
            ids = as_ids(chosen, "channel_ids")
            what = f"channel of layer {found.name!r} with output {found.shape}, on axis {axis}"
            channels = [(check_index(index, found.shape[axis], what),) for index in ids]
            default = [f"Channel#{found.name}_{index}" for index in ids]
            return channels, ElementScore((axis,)), default if names is None else names

        return on_layer(
            cls, "channel", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @classmethod
    def neuron(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        neurons_ids: Units | str | Sequence[str],
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> Terms:
        """Maximize single neurons of a layer, for example logits.

        The score is the neuron's activation divided by the number of neurons of the layer, as in
        Xplique.

        Parameters
        ----------
        model, layer, multiplier, input_shape, preprocess
            See `Objective.layer`.
        neurons_ids
            A neuron, or several. A neuron is an int, the flat index into the layer's output (for a
            convolution in the order channel, row, column; for (H, W, C) row, column, channel), or a
            tuple of coordinates, one per axis.
            A tuple of ints is one neuron when it has as many entries as a layer of two or more axes
            has axes, and several flat indices otherwise. Names of classes, where the model carries
            them, mean its outputs (``model.categories``, set by `fvfast.models.load_model`;
            ``class_names``; ``config.id2label`` of transformers; timm's ``label_names``). "all"
            means all neurons.
        names
            Names of the neurons; default "Neuron#<layer>_<id>", or the names of the classes.

        Returns
        -------
        objective
            An objective with one combination per neuron.

        Raises
        ------
        ValueError
            Unknown layer, or an index out of range.
        """

        def read_targets(found: Layer) -> tuple[list[tuple[int, ...]], Score, Names]:
            chosen: Any = neurons_ids
            if _is_all(chosen):
                chosen = range(math.prod(found.shape))
            elif (classes := named_classes(chosen, found, unwrap(model))) is not None:
                targets: list[tuple[int, ...]] = [(index,) for index in classes.values()]
                return targets, ElementScore((0,)), list(classes) if names is None else names
            units = as_units(chosen, len(found.shape))
            neurons = [neuron_coordinates(unit, found) for unit in units]
            default = [
                f"Neuron#{found.name}_{unit if isinstance(unit, int) else ','.join(map(str, unit))}"
                for unit in units
            ]
            score = ElementScore(tuple(range(len(found.shape))))
            return neurons, score, default if names is None else names

        return on_layer(
            cls, "neuron", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @classmethod
    def point(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        channel_ids: Ids,
        position: Sequence[int] | None = None,
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        channel_axis: int | None = None,
    ) -> Terms:
        """Maximize channels of a layer at one position: neurons, by default in the middle.

        The score is that of `Objective.neuron`.

        Parameters
        ----------
        model, layer, multiplier, input_shape, preprocess
            See `Objective.layer`.
        channel_ids
            One index, or several; see `Objective.channel`.
        position
            One coordinate for each axis of the layer's output that is not the channels': (row,
            column) for a convolution, (token,) for tokens. Negative ones count from the end.
            Default: the middle; of an even number of positions the one behind it, as in Lucent.
        names
            Names of the points; default "Point#<layer>_<id>@<position>".
        channel_axis
            See `Objective.channel`.

        Returns
        -------
        objective
            An objective with one combination per channel.

        Raises
        ------
        ValueError
            Unknown layer, an index out of range, another number of coordinates, or an output with
            three axes or more whose axis of channels cannot be inferred.
        """

        def read_targets(found: Layer) -> tuple[list[tuple[int, ...]], Score, Names]:
            axis = find_channel_axis(found, channel_axis)
            place = position_of(position, found, axis)
            ids = as_ids(channel_ids, "channel_ids")
            neurons = [
                neuron_coordinates((*place[:axis], index, *place[axis:]), found) for index in ids
            ]
            where = ",".join(map(str, place))
            default = [f"Point#{found.name}_{index}@{where}" for index in ids]
            score = ElementScore(tuple(range(len(found.shape))))
            return neurons, score, default if names is None else names

        return on_layer(
            cls, "point", model, layer, multiplier, input_shape, preprocess, read_targets
        )


def _is_all(ids: object) -> bool:
    return ids is None or (isinstance(ids, str) and ids == "all")
