"""The dataset examples of the units of a plan."""

import os
from typing import Any

from fvfast.atlas.directions import read_planned
from fvfast.atlas.examples import ExampleSet, Units, write_examples
from fvfast.atlas.examples.sources import Images
from fvfast.atlas.networks import check_planned, load_planned
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.planned_layers import PlannedLayer
from fvfast.models import LoadedModel


def draw_examples(
    plan: Plan,
    place: Place,
    images: Images,
    *,
    loaded: LoadedModel | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> ExampleSet:
    """Find the images that excite the units of a plan, and write them to its place.

    Parameters
    ----------
    plan
        Says which units of which network.
    place
        Where the atlas is.
    images
        A folder, tar files, or an iterable; see `fvfast.atlas.examples.dataset_examples`.
    loaded
        The network. Default: it is loaded by its name.
    checkpoint
        Path of a file that keeps how far the pass has come.
    settings
        Other arguments of `fvfast.atlas.examples.dataset_examples`.

    Returns
    -------
    examples
        What was found. If the pass was interrupted, nothing was written.

    Raises
    ------
    OtherNetworkError
        The network is not the one of the plan.
    OSError, ValueError
        The images cannot be read, or the place cannot be written.
    """
    if loaded is None:
        loaded = load_planned(plan)
    else:
        check_planned(plan, loaded)
    units = [_units_of(layer) for layer in plan.layers]
    return write_examples(loaded, units, images, place, checkpoint=checkpoint, **settings)


def _units_of(layer: PlannedLayer) -> Units:
    directions = None if layer.directions is None else read_planned(layer.directions)
    return Units(
        layer.name,
        list(layer),
        layer.kind,
        directions=directions,
        channel_axis=layer.channel_axis,
        names=layer.names,
    )
