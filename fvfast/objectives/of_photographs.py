"""Objectives that photographs set: to look like one to a layer, or more so than it does itself."""

from collections.abc import Sequence

import torch
from torch import nn

from fvfast._shared.checks import check_finite, check_sorted_range
from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.layers import Layer, LayerSpec, Preprocess
from fvfast.objectives.input_shape import layer_and_shape
from fvfast.objectives.on_layer import Names, on_layer
from fvfast.objectives.photograph_scores import CaricatureScore, InversionScore, PhotographScore
from fvfast.objectives.photographs import Photographs, activations_of, read_photographs
from fvfast.objectives.targets import find_channel_axis
from fvfast.objectives.weighted_terms import Terms, WeightedTerms


class ObjectivesOfPhotographs(WeightedTerms):
    """The ways to build an `fvfast.Objective` that a photograph sets."""

    @classmethod
    def inversion(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        photograph: Photographs,
        multiplier: float = 1.0,
        names: Names = None,
        *,
        values_range: Sequence[float] = (-1, 1),
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
    ) -> Terms:
        """Look to a layer like a photograph: what the layer keeps of it, and what it forgets.

        The score is minus the squared distance of the activations from those of the photograph,
        over the squared norm of the photograph's: 0 is the best, and -1 is that of activations of
        zero. The network is shown the whole photograph, and activations are compared position by
        position. So the picture should be shown whole, too: ``nb_crops=0`` of `fvfast.maco`, boxes
        nearly as large as the image, or `fvfast.optimize`. A run with smaller crops warns.

        Parameters
        ----------
        model, layer, input_shape, preprocess
            See `Objective.layer`.
        photograph
            Path of a file, PIL image, array (H, W, C) of 8-bit values or values in [0, 1], or
            tensor (C, H, W) of 8-bit values or values in ``values_range``; or several, in a list or
            as (P, ...). A photograph is cropped around its center to the aspect of the network's
            input, and resized.
        multiplier
            Weight of the objective.
        names
            Names of the photographs; default "Inversion#<layer>_<file or number>".
        values_range
            (low, high) of the images that the model takes, which has to be that of the run. The
            default is that of `fvfast.maco`; `fvfast.optimize` has (0, 1).

        Returns
        -------
        objective
            An objective with one combination per photograph.

        Raises
        ------
        OSError
            A file cannot be opened.
        TypeError
            The photograph is nothing of the above.
        ValueError
            Unknown layer; a file that cannot be decoded; a tensor of another shape or range; or
            activations that are not finite, or all zero.

        References
        ----------
        Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR
        2015.
        """
        low_high = check_sorted_range(values_range, "Objective.inversion")
        activations, stems = _activations(
            "inversion", model, layer, photograph, low_high, input_shape, preprocess
        )

        def read_targets(found: Layer) -> tuple[list[torch.Tensor], PhotographScore, Names]:
            default = [f"Inversion#{found.name}_{stem}" for stem in stems]
            score = InversionScore(low_high)
            return activations, score, default if names is None else names

        return on_layer(
            cls, "inversion", model, layer, multiplier, input_shape, preprocess, read_targets
        )

    @classmethod
    def caricature(
        cls: type[Terms],
        model: nn.Module,
        layer: LayerSpec,
        photograph: Photographs,
        multiplier: float = 1.0,
        cossim_pow: float = 1.0,
        names: Names = None,
        *,
        values_range: Sequence[float] = (-1, 1),
        input_shape: Sequence[int] | None = None,
        preprocess: Preprocess | None = None,
        channel_axis: int | None = None,
    ) -> Terms:
        """Exaggerate what a layer sees in a photograph.

        The score is the mean over all positions of the layer, and all views, of the dot product of
        the activations with those of the photograph there, times a power of their cosine, which
        counts as 0.1 where it is less. As for `Objective.inversion`, the picture should be shown
        whole: a run with small crops warns.

        Parameters
        ----------
        model, layer, photograph, multiplier, values_range, input_shape, preprocess
            See `Objective.inversion`.
        cossim_pow
            Power of the cosine: higher values care more about likeness, and 0 about strength alone.
        names
            Names of the photographs; default "Caricature#<layer>_<file or number>".
        channel_axis
            See `Objective.channel`.

        Returns
        -------
        objective
            An objective with one combination per photograph.

        Raises
        ------
        OSError, TypeError, ValueError
            See `Objective.inversion`; and an output with three axes or more whose axis of channels
            cannot be inferred.

        References
        ----------
        Lucid, https://github.com/tensorflow/lucid, and Olah et al., "The Building Blocks of
        Interpretability", Distill 2018.
        """
        power = check_finite(cossim_pow, "cossim_pow")
        low_high = check_sorted_range(values_range, "Objective.caricature")
        activations, stems = _activations(
            "caricature", model, layer, photograph, low_high, input_shape, preprocess
        )

        def read_targets(found: Layer) -> tuple[list[torch.Tensor], PhotographScore, Names]:
            score = CaricatureScore(low_high, find_channel_axis(found, channel_axis), power)
            default = [f"Caricature#{found.name}_{stem}" for stem in stems]
            return activations, score, default if names is None else names

        return on_layer(
            cls, "caricature", model, layer, multiplier, input_shape, preprocess, read_targets
        )


def _activations(
    function: str,
    model: nn.Module,
    layer: LayerSpec,
    photograph: Photographs,
    values_range: tuple[float, float],
    input_shape: Sequence[int] | None,
    preprocess: Preprocess | None,
) -> tuple[list[torch.Tensor], list[str]]:
    """Return the activations of photographs, and what each is called."""
    network = unwrap(model)
    found, shape = layer_and_shape(function, network, layer, input_shape, preprocess)
    images, stems = read_photographs(photograph, shape, values_range, f"Objective.{function}")
    activations = activations_of(images, network, found, preprocess)
    for stem, one in zip(stems, activations, strict=True):
        if not bool(one.any()):
            raise ValueError(
                f"Objective.{function}: layer {found.name!r} puts out nothing but zeros for the "
                f"photograph {stem}: there is nothing to compare with. Choose another layer."
            )
    return activations, stems
