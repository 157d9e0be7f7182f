"""The options that guide pictures towards a look."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from fvfast.files.digests import file_digest
from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.objectives.guides.guide import DEFAULT_WEIGHT
from fvfast.spectrum.photographs import PhotographFolder

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


def guide_settings(given: str | None) -> dict[str, str]:
    """Return what the settings of a picture say about the files of its guide; nothing without any.

    Others under the same names make another guide.
    """
    if given is None or given == _BATCH_NORM:
        return {}
    if not Path(given).is_dir():
        return {"guide_content": file_digest(Path(given))}
    photographs = PhotographFolder(given, (1, 1), progress=False)
    return {"guide_content": _digest_of_all(photographs.paths)}


def _digest_of_all(paths: Iterable[Path]) -> str:
    digest = 0
    for path in paths:
        try:
            content = file_digest(path)
        except (OSError, ValueError):
            continue  # such a file is no part of the guide, and was named when the others were read
        digest = zlib.crc32(content.encode(), digest)
    return f"{digest:08x}"
