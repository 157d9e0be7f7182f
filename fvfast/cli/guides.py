"""The options that guide pictures towards a look."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.objectives.guides.guide import DEFAULT_WEIGHT

_BATCH_NORM = "batch_norm"

GuideOption = Annotated[
    str | None,
    typer.Option(
        "--guide",
        metavar="FOLDER|FILE|batch_norm",
        help="Draw towards a look: that of the photographs in a folder, of a guide that "
        "Guide.save wrote (.safetensors), or of the statistics in the network's batch "
        "normalizations. The record in the picture says so.",
        show_default="none",
    ),
]
GuideWeightOption = Annotated[
    float | None,
    typer.Option(
        "--guide-weight",
        min=0.0,
        help="How much the guide counts.",
        show_default=f"{DEFAULT_WEIGHT:g}, or what the file says",
    ),
]


def read_guide(
    given: str | None,
    weight: float | None,
    objective: Objective,
    values_range: Sequence[float],
    device: torch.device,
    *,
    progress: bool,
) -> Guide | None:
    """Return the guide that a command line names; None where it names none.

    Raises
    ------
    ValueError, OSError
        There is no such guide, or it cannot be read.
    """
    if given is None:
        if weight is not None:
            raise typer.BadParameter("--guide-weight weighs a guide, which --guide names.")
        return None
    if given == _BATCH_NORM:
        guide = Guide.from_batch_norm(objective)
    elif Path(given).is_dir():
        guide = Guide.from_images(
            objective, given, values_range=values_range, device=device, progress=progress
        )
    elif Path(given).exists():
        guide = Guide.load(given)
    else:
        raise FileNotFoundError(
            f"--guide: there is no {given}; expected a folder of photographs, a file that "
            f"Guide.save wrote, or {_BATCH_NORM}."
        )
    return guide if weight is None else guide.weighted(weight)
