"""Objectives: what an image is optimized for."""

from fvfast.objectives.of_functions import ObjectivesOfFunctions
from fvfast.objectives.of_groups import ObjectivesOfGroups
from fvfast.objectives.of_photographs import ObjectivesOfPhotographs
from fvfast.objectives.of_units import ObjectivesOfUnits


class Objective(
    ObjectivesOfUnits, ObjectivesOfGroups, ObjectivesOfPhotographs, ObjectivesOfFunctions
):
    """A weighted sum of sub-objectives, each of which reads one layer of a model.

    A sub-objective may have several targets (channels, neurons, directions). When sub-objectives
    are added, every combination of their targets is an objective of its own: neurons 1 to 10 plus
    channels 3 to 7 make 50 combinations, the last target varying fastest. `Objective.zipped` adds
    them one to one instead. The name of a combination joins its targets' names with " & ". Pictures
    that are scored together, as by `Objective.diversity`, stand next to each other.

    Objectives are immutable in use: ``+``, ``-``, ``*``, ``/`` and unary minus return new ones.

    Build one with `Objective.layer`, `Objective.direction`, `Objective.channel`, `Objective.point`,
    `Objective.neuron`, `Objective.inversion`, `Objective.caricature`, `Objective.diversity`,
    `Objective.alignment`, `Objective.interpolation`, `Objective.path` or `Objective.from_callable`;
    the constructor is for sub-objectives of your own.

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
        scalar or K scores, or a `fvfast.objectives.scores.Score`; one that looks at several images
        at once is a `fvfast.objectives.coupled_scores.CoupledScore`.
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
    combinations
        Which targets make a combination together. Default: each with each.

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
