"""Finds for each unit the images that excite it most: what a user calls."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fvfast._shared.checks import check_count, check_sorted_range
from fvfast.atlas.examples.example_set import ExampleSet
from fvfast.atlas.examples.image_pass import ImagePass
from fvfast.atlas.examples.pixels import MODES
from fvfast.atlas.examples.sources import Images, image_source
from fvfast.atlas.examples.units import Layers, choose_units
from fvfast.atlas.examples.writing import Write
from fvfast.atlas.places import Place
from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.engine.borrowing.state import borrowed, unwrap
from fvfast.engine.devices import check_device
from fvfast.engine.network.categories import find_categories
from fvfast.engine.network.layers import Preprocess
from fvfast.files.writing import check_replaceable
from fvfast.models import VALUES_RANGE, LoadedModel
from fvfast.objectives.input_shape import checked_input_shape


@result_kept
def dataset_examples(
    model: nn.Module | LoadedModel,
    layers: Layers,
    images: Images,
    *,
    k: int = 9,
    batch_size: int = 32,
    device: torch.device | str | int | None = None,
    input_shape: Sequence[int] | None = None,
    values_range: Sequence[float] | None = None,
    preprocess: Preprocess | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 10_000,
    threads: int | None = None,
    progress: bool = True,
) -> ExampleSet:
    """Find, for each of many units, the images that excite it most.

    All images go through the network once, each cropped around its center to the shape of the
    network's input. Of each unit, the largest activation in each image counts. Memory grows with
    the number of units and k, but not with the number of images.

    Parameters
    ----------
    model
        The network; or what `fvfast.models.load_model` returns, which says how it takes images.
    layers
        A layer, by name, index or module, for all its channels; a list of layers; indices of
        channels by the name of the layer, ``{"features.3": [0, 17]}``; or `Units`, also for
        neurons, classes and directions.
    images
        A folder; tar files in the layout of WebDataset (paths or URLs, ``a-{000..003}.tar``); or
        any iterable of (image, label, source), (image, label) or images, each a path, a PIL image,
        an array (H, W, C) or a tensor (C, H, W), of uint8 or of numbers from 0 to 1.
    k
        How many images are kept for each unit.
    batch_size
        Images that run together; fewer, if the memory is too small. Results differ by no more than
        rounding.
    device
        Where to run the network; None leaves it where it is.
    input_shape
        (C, H, W) that the network is shown; None for the shape that it declares, or (3, 224, 224).
    values_range
        Lowest and highest value of the images that ``preprocess`` (or, without one, the network)
        takes; (-1, 1) by default.
    preprocess
        Applied to images (N, C, H, W) in ``values_range`` before the network.
    checkpoint
        Path of a file that keeps how far the pass has come. Another call with the same network,
        units and images goes on from there, with the same result.
    checkpoint_every
        After how many images it is written.
    threads
        How many threads decode images; None for as many as Python takes by default.
    progress
        Show a progress bar.

    Returns
    -------
    examples
        A sequence of `UnitExamples`, in the order of the units; ``.write(place)`` writes them.
        Interrupted by Ctrl-C, it holds what the images until then have shown.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit the network; no image can be read; or the checkpoint is of
        something else.
    OSError
        There is no such folder or archive, or the checkpoint cannot be written.

    Warns
    -----
    UserWarning
        Once, at the end, with the names of images that could not be read.
    RuntimeWarning
        Activations were not finite, or the pass was interrupted.
    """
    loaded = _loaded(model, input_shape, values_range, preprocess)
    count, batch = check_count(k, "k", 1), check_count(batch_size, "batch_size", 1)
    every = check_count(checkpoint_every, "checkpoint_every", 1)
    chosen = choose_units(loaded, layers)
    source = image_source(images)
    path = None if checkpoint is None else check_replaceable(Path(checkpoint))
    where = None if device is None else check_device(device)
    with torch.inference_mode(False), borrowed(loaded.model, where) as found, torch.no_grad():
        run = ImagePass(loaded, chosen, source, count, found)
        if path is not None:
            run.resume(path)
        interrupted = run.go(batch, every, threads, progress)
    run.report()
    return run.result(interrupted)


def write_examples(
    model: nn.Module | LoadedModel,
    layers: Layers,
    images: Images,
    place: Place | Write | str | os.PathLike[str],
    *,
    threads: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> ExampleSet:
    """Find the examples of units and write them, unless the pass over the images is interrupted.

    Parameters
    ----------
    model, layers, images, threads, progress
        As in `dataset_examples`.
    place
        Where to; see `ExampleSet.write`.
    settings
        Other arguments of `dataset_examples`.

    Returns
    -------
    examples
        What was found; ``examples.interrupted`` says whether it was written.
    """
    examples = dataset_examples(
        model, layers, images, threads=threads, progress=progress, **settings
    )
    if not examples.interrupted:
        examples.write(place, threads=threads, progress=progress)
    return examples


def _loaded(
    model: nn.Module | LoadedModel,
    input_shape: Sequence[int] | None,
    values_range: Sequence[float] | None,
    preprocess: Preprocess | None,
) -> LoadedModel:
    """Return the network with all that says how it takes images."""
    network = unwrap(model.model if isinstance(model, LoadedModel) else model)
    if input_shape is None and isinstance(model, LoadedModel):
        shape = model.input_shape
    else:
        shape = checked_input_shape(input_shape, network)
    if shape[0] not in MODES:
        raise ValueError(
            f"the network takes images of {shape[0]} channels; dataset examples are for images in "
            "color (3) or gray (1)."
        )
    default = model.values_range if isinstance(model, LoadedModel) else VALUES_RANGE
    low, high = check_sorted_range(
        default if values_range is None else values_range, "dataset_examples"
    )
    if preprocess is None and isinstance(model, LoadedModel):
        preprocess = model.preprocess
    name = model.name if isinstance(model, LoadedModel) else type(network).__name__
    known = model.categories if isinstance(model, LoadedModel) else None
    categories = find_categories(network) if known is None else known
    return LoadedModel(network, name, shape, (low, high), preprocess, categories)
