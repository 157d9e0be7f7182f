"""Objectives: what an image is optimized for."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from fvfast._shared.checks import is_number
from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.input_type import input_dtype
from fvfast.engine.network.layers import IMAGES, Layer, LayerSpec, Preprocess, find_layer
from fvfast.engine.taps import TappedModel
from fvfast.files.dictionaries import Dictionary
from fvfast.objectives.input_shape import (
    checked_input_shape,
    layer_and_shape,
    shape_for_functions,
)
from fvfast.objectives.scores import (
    CallableScore,
    DirectionScore,
    ElementScore,
    LayerScore,
    MaskScore,
    Reducer,
    Score,
    WeightedSum,
)
from fvfast.objectives.targets import (
    Ids,
    Units,
    as_ids,
    as_units,
    check_index,
    find_channel_axis,
    named_classes,
    neuron_coordinates,
    read_directions,
)

Names = str | Sequence[str] | None


class Objective:
    """A weighted sum of sub-objectives, each of which reads one layer of a model.

    A sub-objective may have several targets (channels, neurons, directions). When sub-objectives
    are added, every combination of their targets is an objective of its own: neurons 1 to 10 plus
    channels 3 to 7 make 50 combinations, the last target varying fastest. The name of a
    combination joins its targets' names with " & ".

    Objectives are immutable in use: ``+``, ``-``, ``*``, ``/`` and unary minus return new ones.

    Build one with `Objective.layer`, `Objective.direction`, `Objective.channel`, `Objective.neuron`
    or `Objective.from_callable`; the constructor is for sub-objectives of your own.

    Parameters
    ----------
    model
        The network; None when the sub-objectives only read the images.
    layers
        The layer that each sub-objective reads: dotted name, index, module, or (one of these, key).
    masks
        For each sub-objective, its targets: masks of the layer's shape when its function is a plain
        callable.
    funcs
        For each sub-objective, a callable ``func(outputs (K, ...), mask (1, ...))`` that returns a
        scalar or K scores, or a `fvfast.objectives.scores.Score`.
    multipliers
        For each sub-objective, its weight in the sum.
    names
        For each sub-objective, the names of its targets.
    input_shape
        Shape (C, H, W) of the images that the model takes. Default: what the model declares, else
        (3, 224, 224).
    preprocess
        Applied to the images (N, C, H, W) before the model, for example a normalization with
        ImageNet's mean and standard deviation. Returns a float tensor, by operations of torch that
        pass gradients on.

    Raises
    ------
    ValueError
        The lists differ in length, a layer is not found, puts out complex numbers or integers, or
        the preprocessing fails.

    Warns
    -----
    UserWarning
        Once, a layer lies behind a batch normalization without running statistics.

    References
    ----------
    Interface: Xplique, https://deel-ai.github.io/xplique/. Unlike Xplique 2.0, each multiplier
    weighs its own sub-objective only, and operators never change their operands.
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
    ) -> None:
        self.model = unwrap(model) if model is not None else None
        # A function alone does not tell the shape of its images.
        self._any_image_shape = model is None and input_shape is None
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

    # Algebra

    def _weighted(self, factor: float) -> "Objective":
        return Objective(
            self.model, self.layers, self.masks, self.funcs,
            [multiplier * factor for multiplier in self.multipliers], self.names,
            input_shape=self.image_shape, preprocess=self.preprocess,
        )  # fmt: skip

    def __add__(self, term: "Objective") -> "Objective":
        if not isinstance(term, Objective):
            return NotImplemented
        any_model = self.model is None or term.model is None
        any_shape = self._any_image_shape or term._any_image_shape
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
        return Objective(
            self.model if self.model is not None else term.model,
            self.layers + term.layers,
            self.masks + term.masks,
            self.funcs + term.funcs,
            self.multipliers + term.multipliers,
            self.names + term.names,
            input_shape=term.image_shape if self._any_image_shape else self.image_shape,
            preprocess=self.preprocess,
        )

    def __radd__(self, start: object) -> "Objective":
        # sum() starts from 0.
        return self if isinstance(start, int) and start == 0 else NotImplemented

    def __neg__(self) -> "Objective":
        return self._weighted(-1.0)

    def __sub__(self, term: "Objective") -> "Objective":
        return self + (-term) if isinstance(term, Objective) else NotImplemented

    def __mul__(self, factor: float) -> "Objective":
        return self._weighted(float(factor)) if is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Objective":
        return self._weighted(1.0 / float(divisor)) if is_number(divisor) else NotImplemented

    def __repr__(self) -> str:
        terms = (
            f"{multiplier:+g} * {names[0] if len(names) == 1 else f'{names[0]} ... {names[-1]}'}"
            for multiplier, names in zip(self.multipliers, self.names, strict=True)
        )
        return f"Objective({' '.join(terms)})"

    # Compilation

    @property
    def combination_names(self) -> list[str]:
        """Names of all combinations of targets, the last sub-objective varying fastest."""
        # A sub-objective whose name is empty leaves none.
        return [" & ".join(filter(None, names)) for names in itertools.product(*self.names)]

    @property
    def runs_user_code(self) -> bool:
        """Whether scoring calls functions of the user."""
        return any(func.runs_user_code for func in self.funcs)

    @property
    def unit(self) -> float:
        """By how much the score grows when each activation that it reads grows by 1."""
        return sum(
            abs(multiplier) * func.unit(layer.shape)
            for multiplier, func, layer in zip(
                self.multipliers, self.funcs, self.layers, strict=True
            )
        )

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
        names = self.combination_names
        chosen = range(len(names)) if combinations is None else combinations
        model_reconfigured = TappedModel(self.model, self.layers, self.preprocess)
        input_shape = (len(chosen), *self.image_shape)
        return model_reconfigured, self.scorer(chosen), [names[i] for i in chosen], input_shape

    def scorer(self, combinations: Sequence[int]) -> WeightedSum:
        """Return the function that scores some combinations.

        Parameters
        ----------
        combinations
            Indices of N combinations.

        Returns
        -------
        objective_function
            See `compile`.
        """
        counts = [len(targets) for targets in self.masks]
        indices = np.asarray(combinations, dtype=np.int64)
        picks = np.stack(np.unravel_index(indices, counts), axis=-1)
        scorers = [
            func.for_targets([targets[pick] for pick in picks[:, term]])
            for term, (func, targets) in enumerate(zip(self.funcs, self.masks, strict=True))
        ]

        return WeightedSum(self.multipliers, scorers)

    # Constructors

    @staticmethod
    def layer(
        model: nn.Module,
        layer: LayerSpec,
        reducer: Reducer = "magnitude",
        multiplier: float = 1.0,
        name: str | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> "Objective":
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
        return _on_layer(
            "layer", model, layer, multiplier, input_shape, preprocess,
            lambda found: (
                [None], LayerScore(reducer), name if name is not None else f"Layer#{found.name}"
            ),
        )  # fmt: skip

    @staticmethod
    def direction(
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
    ) -> "Objective":
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

        return _on_layer(
            "direction", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @staticmethod
    def channel(
        model: nn.Module,
        layer: LayerSpec,
        channel_ids: Ids | Literal["all"] | None = None,
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        channel_axis: int | None = None,
    ) -> "Objective":
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

        return _on_layer("channel", model, layer, multiplier, input_shape, preprocess, read_targets)

    @staticmethod
    def neuron(
        model: nn.Module,
        layer: LayerSpec,
        neurons_ids: Units | str | Sequence[str],
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> "Objective":
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

        return _on_layer("neuron", model, layer, multiplier, input_shape, preprocess, read_targets)

    @staticmethod
    def from_callable(
        model: nn.Module | None,
        f: Callable[[torch.Tensor], torch.Tensor]
        | Sequence[Callable[[torch.Tensor], torch.Tensor]],
        multiplier: float = 1.0,
        names: Names = None,
        *,
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> "Objective":
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
        return Objective(
            model, [IMAGES], [functions], [CallableScore(input_dtype(network, image))],
            [multiplier], [names],
            input_shape=input_shape, preprocess=preprocess,
        )  # fmt: skip


def _on_layer(
    function: str,
    model: nn.Module,
    layer: LayerSpec,
    multiplier: float,
    input_shape: Sequence[int] | None,
    preprocess: Preprocess | None,
    read_targets: Callable[[Layer], tuple[list[Any], Score, Names]],
) -> Objective:
    """Build an objective with one sub-objective, whose targets depend on the layer's shape."""
    if not is_number(multiplier):
        raise TypeError(
            f"Objective.{function}: multiplier must be a number, got {multiplier!r}. Arguments "
            "after the targets are best named, as in names=[...]."
        )
    network = unwrap(model)
    found, shape = layer_and_shape(function, network, layer, input_shape, preprocess)
    targets, score, names = read_targets(found)
    return Objective(
        network, [found], [targets], [score], [multiplier], [names or []],
        input_shape=shape, preprocess=preprocess,
    )  # fmt: skip


def _is_all(ids: object) -> bool:
    return ids is None or (isinstance(ids, str) and ids == "all")


def _told_apart(first: object, second: object) -> str:
    """Describe two different values, which may look alike."""
    shown = [
        type(one).__name__ if isinstance(one, nn.Module) else repr(one) for one in (first, second)
    ]
    if shown[0] != shown[1]:
        return f"{shown[0]} and {shown[1]}"
    return f"two different objects, both {shown[0]}: make one, and give it to both objectives"
