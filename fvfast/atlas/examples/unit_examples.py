"""What a pass over images has found for one unit."""

import dataclasses

from fvfast.atlas.examples.fields import Box
from fvfast.atlas.keys import UnitKey


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

    @property
    def key(self) -> UnitKey:
        """Which unit of an atlas."""
        return UnitKey(self.layer, self.index)
