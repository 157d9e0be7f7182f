"""What is known of one unit, and its record as JSON."""

import dataclasses
import urllib.parse
from collections.abc import Mapping
from typing import Any

from fvfast.atlas.examples.fields import Box

FORMAT = 1
"""Version of the records."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One image that excites a unit.

    Attributes
    ----------
    rank
        0 for the image that excites it most.
    value
        The unit's largest activation in the image.
    source, label
        Where the image is from, and its class, if known.
    image
        Number of the image in its source.
    position
        Row and column of the activation in the layer; None where positions have no place.
    box
        Top, left, bottom, right of the part of the network's input that is shown.
    """

    rank: int
    value: float
    source: str
    label: str | None
    image: int
    position: tuple[int, int] | None
    box: Box


@dataclasses.dataclass(frozen=True)
class UnitExamples:
    """What is known of one unit.

    Attributes
    ----------
    layer, index, kind, name
        Which unit: name of the layer, index, kind (see `Units`), and a name of its own, if it has
        one.
    images
        In how many images its activation was finite.
    mean
        Mean over the images of its largest activation in each; None without images.
    active_share
        Share of the images in which its largest activation is above 0; None without images.
    edges, counts
        Histogram of its largest activation in each image: 33 edges and 32 counts. A bin holds its
        lower edge and not its upper one.
    top
        The images that excite it most.
    """

    layer: str
    index: int
    kind: str
    name: str | None
    images: int
    mean: float | None
    active_share: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    top: tuple[Example, ...]


def unit_key(layer: str, index: int) -> str:
    """Return the name of a unit in an atlas, which is also a safe name of a file."""
    return f"{urllib.parse.quote(layer, safe='')}/{index}"


def unit_record(
    unit: UnitExamples,
    files: Mapping[int, Mapping[str, Any]],
    *,
    images: int,
    unreadable: int,
    size: tuple[int, int],
) -> dict[str, Any]:
    """Return the record of a unit, ready for JSON.

    Parameters
    ----------
    unit
        The unit.
    files
        Name and hash of the picture of each rank.
    images, unreadable
        How many images were read, and how many could not be.
    size
        (H, W) of the network's input.
    """
    return {
        "format": FORMAT,
        "key": unit_key(unit.layer, unit.index),
        "layer": unit.layer,
        "index": unit.index,
        "kind": unit.kind,
        "name": unit.name,
        "images": images,
        "images_unreadable": unreadable,
        "mean": _short(unit.mean),
        "active_share": _short(unit.active_share),
        "histogram": {"edges": list(unit.edges), "counts": list(unit.counts)},
        "top": [
            {
                "rank": example.rank,
                "value": _short(example.value),
                **files[example.rank],
                "source": example.source,
                "label": example.label,
                "position": None if example.position is None else list(example.position),
                "box": list(example.box),
                "image_size": list(size),
            }
            for example in unit.top
        ],
    }


def _short(value: float | None) -> float | None:
    """Round to as many digits as a float32 has at most."""
    return None if value is None else float(f"{value:.9g}")
