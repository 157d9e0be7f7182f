"""What a network takes, and how the engine runs it."""

from collections.abc import Iterator

import torch

from fvfast.engine.plan import make_plan
from fvfast.engine.precision import Precision
from fvfast.engine.state import borrowed
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.ops.philox import Purpose, draw_normal

PROBE_VIEWS = 4


def describe_network(loaded: LoadedModel) -> Iterator[tuple[str, str]]:
    """Names and values: the input and the classes."""
    low, high = loaded.values_range
    yield "network", f"{loaded.name} ({type(loaded.model).__name__})"
    yield "input (channels x height x width)", " x ".join(map(str, loaded.input_shape))
    yield "values_range", f"{low:g} to {high:g}"
    yield "preprocess", str(loaded.preprocess)
    categories = loaded.categories
    yield "named classes", "none" if categories is None else str(len(categories))


def describe_engine(
    loaded: LoadedModel, device: torch.device, precision: Precision
) -> list[tuple[str, str]]:
    """Names and values: how the engine runs the network up to its last layer.

    Raises
    ------
    ValueError
        The network does not run in this precision.
    """
    objective = Objective.layer(
        loaded.model, -1, input_shape=loaded.input_shape, preprocess=loaded.preprocess
    )
    low, high = loaded.values_range
    views = draw_normal(
        (PROBE_VIEWS, *loaded.input_shape), seed=0, purpose=Purpose.BUFFER, images=[0]
    )
    views = (low + (high - low) * views.squeeze(0).sigmoid()).to(device)
    with torch.inference_mode(False), borrowed(loaded.model, device):
        tapped, scorer, names, _ = objective.compile()
        return make_plan(tapped, scorer, views, names[0], precision).describe()
