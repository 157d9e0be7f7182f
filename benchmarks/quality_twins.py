"""Finds channels of other networks that respond to photographs as a channel of the artist does.

A channel's *twin* in another network is the one, among the nonlinear outputs of comparable depth,
whose mean activation over crops of photographs correlates best with that of the channel. It is
chosen on one half of the photographs. Its correlation over the other half says whether it is the
same feature, and the crops of that half say what activation is high for it.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import evaluation_boxes, evaluation_crops
from fvfast.models import LoadedModel

CROPS = 8
"""Crops of each photograph, of the sizes by which pictures are judged."""
DEPTHS = 0.15
"""How far a twin's relative depth, from 0 to 1, may be from that of the channel."""

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Twin:
    """A channel that responds to photographs as another one does.

    Attributes
    ----------
    layer, channel
        Which one it is.
    correlation
        Pearson's, of the mean activations over crops of photographs that were not used to find it.
    sorted_means
        Its mean activations over these crops, in ascending order.
    """

    layer: str
    channel: int
    correlation: float
    sorted_means: Array

    def percentile(self, value: float) -> float:
        """Return the percentage of the crops with a lower mean activation."""
        return 100.0 * float(np.searchsorted(self.sorted_means, value)) / len(self.sorted_means)

    def multiple(self, value: float, percent: float = 99.0) -> float:
        """Return the value over this percentile of the crops."""
        return value / float(np.percentile(self.sorted_means, percent))


def nonlinear_layers(model: torch.nn.Module, depth: float, within: float) -> list[str]:
    """Return the layers of an EfficientNet-Lite whose outputs are those of a ReLU6.

    The output of a block is linear; ``_blocks.N._swish``, read at its last call, is the ReLU6 after
    its depthwise convolution.

    Parameters
    ----------
    model
        The network.
    depth
        Relative depth, from 0 for the first block to 1 for the last.
    within
        Largest difference from it.
    """
    names = [
        name for name, _ in model.named_modules() if re.fullmatch(r"_blocks\.\d+\._swish", name)
    ]
    last = len(names) - 1
    return [name for name in names if abs(block_of(name) / last - depth) <= within]


def block_of(layer: str) -> int:
    """Return the number of the block of a layer."""
    return int(layer.split(".")[1])


def channel_means(
    model: torch.nn.Module, layers: Sequence[str], images: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the mean activation (B, channels) of each channel, at the last call of each layer."""
    means: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Any:
        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            means[name] = output.mean((2, 3))

        return keep

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return means


def means_of_photographs(
    folder: Path, loaded: LoadedModel, layers: Sequence[str], cache: Path
) -> dict[str, Array]:
    """Return mean activations (photographs, crops, channels) of layers.

    Parameters
    ----------
    folder
        With photographs, in folders of any depth (see `benchmarks.photographs`).
    loaded
        The network.
    layers
        Names of its layers.
    cache
        Folder in which the means are kept for the next time.
    """
    paths = sorted(folder.rglob("*.jpg"))
    told = [loaded.name, CROPS, *layers, *((str(p), p.stat().st_size) for p in paths)]
    file = cache / f"means-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as kept:
            return {name: kept[name] for name in layers}
    console().print(f"{loaded.name}: {CROPS} crops of each of {len(paths)} photographs ...")
    parts: dict[str, list[Array]] = {name: [] for name in layers}
    for number, path in enumerate(paths):
        crops = crops_of_photograph(path, loaded, seed=number)
        for name, means in channel_means(loaded.model, layers, crops).items():
            parts[name].append(means.numpy())
    together = {name: np.stack(means) for name, means in parts.items()}
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(file, **together)  # type: ignore[arg-type]
    return together


def crops_of_photograph(path: Path, loaded: LoadedModel, seed: int) -> torch.Tensor:
    """Cut crops (CROPS, C, H, W) from the square in the middle of a photograph."""
    with Image.open(path) as picture:
        side = min(picture.size)
        square = np.array(ImageOps.fit(picture.convert("RGB"), (side, side)))
    low, high = loaded.values_range
    image = low + torch.from_numpy(square).permute(2, 0, 1)[None].float() * ((high - low) / 255)
    (crops,) = evaluation_crops(image, loaded.input_shape[1:], evaluation_boxes(CROPS, seed))
    return crops


def halves(count: int, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide photographs into those that twins are found with, and those that are held out."""
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 2], order[count // 2 :]


def find_twins(own: Array, others: Mapping[str, Array]) -> list[Twin]:
    """Find the twin of each channel.

    Parameters
    ----------
    own
        Mean activations (photographs, crops, channels) of the layer with the channels.
    others
        Those of the layers in which twins are looked for, by name.

    Returns
    -------
    twins
        One for each channel; its correlation is 0 where the channel, or the twin, has the same
        mean activation in all crops.
    """
    found_with, held_out = halves(len(own))
    names = [(name, channel) for name, means in others.items() for channel in range(means.shape[2])]
    candidates = np.concatenate(list(others.values()), axis=2)
    best = correlations(own[found_with], candidates[found_with]).argmax(axis=1)
    chosen = candidates[held_out][..., best]
    confirmed = _standardized(own[held_out]) * _standardized(chosen)
    return [
        Twin(*names[index], float(correlation), np.sort(means))
        for index, correlation, means in zip(
            best, confirmed.mean(axis=0), _flat(chosen).T, strict=True
        )
    ]


def correlations(first: Array, second: Array) -> Array:
    """Return Pearson's correlation of each channel of the first with each one of the second."""
    return np.asarray(_standardized(first).T @ _standardized(second) / len(_flat(first)))


def _flat(means: Array) -> Array:
    return means.reshape(-1, means.shape[-1])


def _standardized(means: Array) -> Array:
    """Return values (crops, channels) of mean 0 and deviation 1, or of 0 for a constant channel."""
    flat = _flat(means).astype(np.float64)
    centered = flat - flat.mean(axis=0)
    deviation = centered.std(axis=0)
    return np.asarray(centered / np.where(deviation > 0, deviation, np.inf))
