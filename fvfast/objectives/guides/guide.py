"""Guides: what photographs, or a network's own statistics, say about how a picture should look."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fvfast._shared.checks import check_finite, check_sorted_range
from fvfast.engine.network.layers import Layer, LayerSpec, find_layer
from fvfast.objectives.guides.blocks import batch_normalizations, first_and_last_block
from fvfast.objectives.guides.distributions import MomentScore, SortMatchingScore
from fvfast.objectives.guides.guide_file import read_guide, write_guide
from fvfast.objectives.guides.measuring import above_zero, measure_layers
from fvfast.objectives.objective import Objective
from fvfast.objectives.scores import TensorScore
from fvfast.objectives.targets import find_channel_axis

DEFAULT_WEIGHT = 5.0

_LISTED = 5
"""Most layers that are named one by one where a guide is shown."""


@dataclasses.dataclass(frozen=True, eq=False)
class Guide:
    """Draws pictures towards a look: their activations are to be distributed as given.

    Make one with `from_images` or `from_batch_norm`, and pass it on as ``maco(..., guide=...)``.
    A guided picture shows the look of the guide's images as well as what the unit has learned; the
    record in a PNG and the plot say so.

    Attributes
    ----------
    kind
        "images" or "batch_norm".
    layers
        Names of the layers that are compared.
    statistics
        For each layer: with "images", sorted activations (C, D) and deviations (C,); with
        "batch_norm", means and deviations (C,).
    weight
        How much a distance of one deviation counts, in units of the unit's activation.
    origin
        What the guide was made of, for people.
    """

    kind: str
    layers: tuple[str, ...]
    statistics: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    weight: float = DEFAULT_WEIGHT
    origin: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _SCORES:
            raise ValueError(f"a guide's kind must be one of {sorted(_SCORES)}, got {self.kind!r}.")
        weight = check_finite(self.weight, "weight")
        if weight < 0:
            raise ValueError(f"weight must be at least 0, got {weight:g}.")
        object.__setattr__(self, "weight", weight)

    def __repr__(self) -> str:
        layers = ", ".join(self.layers) if len(self.layers) <= _LISTED else len(self.layers)
        return f"Guide({self.origin or self.kind}, layers: {layers}, weight {self.weight:g})"

    @classmethod
    def from_images(
        cls,
        objective: Objective,
        images: str | os.PathLike[str] | torch.Tensor | Iterable[Any],
        *,
        layers: Sequence[LayerSpec] | None = None,
        weight: float = DEFAULT_WEIGHT,
        values_range: Sequence[float] = (-1, 1),
        device: torch.device | str | None = None,
        progress: bool = True,
    ) -> "Guide":
        """Measure how a layer's activations are distributed in photographs (sort-matching).

        Parameters
        ----------
        objective
            Any objective of the network, which tells the size of its images and how they are
            prepared.
        images
            A folder of photographs, a tensor (N, C, H, W) of 8-bit values or of values in
            values_range, or an iterable of such tensors. A few dozen photographs of anything
            are enough.
        layers
            The layers to compare. Default: the first and the last block, whose activations say most
            about texture and about composition.
        weight
            How much a distance of one deviation counts: the picture maximizes its score minus
            ``weight`` times the mean squared distance, which is in units of the unit's activation.
        values_range
            (low, high) of the images that the model takes, as in `fvfast.maco`.
        device
            Where to run the network. Default: where it is.
        progress
            Whether to show a progress bar while a folder is read.

        Returns
        -------
        guide
            Serves all objectives of this network, and of others with the same layers.

        Raises
        ------
        ValueError
            There is no image, a layer has one position only, activations are not finite, or a
            weight or range that is none.
        TypeError
            An argument of another type.

        References
        ----------
        Hahm et al., "VITAL", ICCV 2025, whose loss this is, in units of each channel's deviation.
        """
        _check_objective(objective, "Guide.from_images")
        found = _found(objective, layers)
        for layer in found:
            _check_positions(layer)
        statistics, count = measure_layers(
            objective, found, images,
            values_range=check_sorted_range(values_range, "Guide.from_images"),
            device=device, progress=progress,
        )  # fmt: skip
        names = tuple(layer.name for layer in found)
        where = f" in {os.fspath(images)}" if isinstance(images, str | os.PathLike) else ""
        return cls("images", names, tuple(statistics), weight, f"{_counted(count)}{where}")

    @classmethod
    def from_batch_norm(cls, objective: Objective, *, weight: float = DEFAULT_WEIGHT) -> "Guide":
        """Take mean and deviation of each channel from a network's batch normalizations.

        These have seen the images that the network was trained on, so no image is needed
        (DeepInversion).

        Parameters
        ----------
        objective
            Any objective of the network.
        weight
            See `from_images`.

        Raises
        ------
        ValueError
            The network has no batch normalization with running statistics.
        TypeError
            An argument of another type.

        References
        ----------
        Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR
        2020.
        """
        _check_objective(objective, "Guide.from_batch_norm")
        assert objective.model is not None
        modules = batch_normalizations(objective.model, objective.image_shape, objective.preprocess)
        if not modules:
            raise ValueError(
                f"Guide.from_batch_norm: the model ({type(objective.model).__name__}) has no batch "
                "normalization with running statistics; use Guide.from_images."
            )
        statistics = tuple(_moments(module) for module in modules.values())
        return cls("batch_norm", tuple(modules), statistics, weight, "batch normalizations")

    def weighted(self, weight: float) -> "Guide":
        """Return the guide with another weight."""
        return dataclasses.replace(self, weight=weight)

    def guided(self, objective: Objective) -> Objective:
        """Return an objective of the same names, with the guide's distance taken off its scores.

        Raises
        ------
        ValueError
            The network has no layer of a name of the guide's, or one of another size.
        """
        layers = _found(objective, self.layers)
        share = self.weight * objective.unit / len(layers)
        whole = objective
        for layer, statistics in zip(layers, self.statistics, strict=True):
            axis = find_channel_axis(layer, None)
            if layer.shape[axis] != len(statistics[0]):
                raise ValueError(
                    f"the guide was made for {len(statistics[0])} channels in layer "
                    f"{layer.name!r}, which has {layer.shape[axis]}: make a guide with this "
                    "network."
                )
            score = _SCORES[self.kind](*statistics, axis)
            # Without a name: the picture keeps its own, and so its random numbers.
            whole = whole + Objective(
                objective.model, [layer], [[None]], [score], [share], [""],
                input_shape=objective.image_shape, preprocess=objective.preprocess,
            )  # fmt: skip
        return whole

    def described(self) -> dict[str, Any]:
        """Return what goes into the record of a picture."""
        return {
            "kind": self.kind, "of": self.origin, "layers": list(self.layers),
            "weight": self.weight,
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the guide to a safetensors file.

        Raises
        ------
        ImportError
            The package safetensors is not installed.
        """
        tensors = {}
        for number, (first, second) in enumerate(self.statistics):
            tensors[f"{number}.first"], tensors[f"{number}.second"] = first, second
        write_guide(Path(path), tensors, json.dumps(self.described()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Guide":
        """Read a guide that `save` has written.

        Raises
        ------
        ValueError
            The file is none of a guide, or damaged.
        ImportError
            The package safetensors is not installed.
        OSError
            The file cannot be read.
        """
        tensors, description = read_guide(Path(path))
        try:
            written: Mapping[str, Any] = json.loads(description)
            layers = tuple(str(name) for name in written["layers"])
            statistics = tuple(
                (tensors[f"{number}.first"], tensors[f"{number}.second"])
                for number in range(len(layers))
            )
            return cls(
                str(written["kind"]), layers, statistics, written["weight"], str(written["of"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no whole guide: {error}") from error


_SCORES: Mapping[str, Callable[..., TensorScore]] = {
    "images": SortMatchingScore,
    "batch_norm": MomentScore,
}


def _check_objective(objective: Any, function: str) -> None:
    if not isinstance(objective, Objective):
        raise TypeError(
            f"{function} takes an Objective of the network, got {type(objective).__name__}."
        )
    if objective.model is None:
        raise ValueError(f"{function} needs an objective with a network; this one has none.")


def _found(objective: Objective, layers: Sequence[LayerSpec] | None) -> list[Layer]:
    model = objective.model
    if model is None:
        raise ValueError("a guide needs an objective with a network; this one has none.")
    if layers is None:
        layers = first_and_last_block(model, objective.image_shape, objective.preprocess)
    elif isinstance(layers, str | int | torch.nn.Module):
        layers = [layers]
    if not layers:
        raise ValueError("a guide needs at least one layer, got none.")
    return [
        find_layer(model, layer, objective.image_shape, objective.preprocess) for layer in layers
    ]


def _check_positions(layer: Layer) -> None:
    if math.prod(layer.shape) == layer.shape[find_channel_axis(layer, None)]:
        raise ValueError(
            f"layer {layer.name!r} has an output of {layer.shape}, one position for each channel: "
            "a guide compares how activations are distributed over many. Name a layer before it."
        )


def _moments(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of each channel of a batch normalization's output."""
    offset, scale, variance = (getattr(module, name) for name in ("bias", "weight", "running_var"))
    means = torch.zeros_like(variance) if offset is None else offset.detach()
    deviations = torch.ones_like(variance) if scale is None else scale.detach().abs()
    return means.float().cpu(), above_zero(deviations.float().cpu())


def _counted(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
