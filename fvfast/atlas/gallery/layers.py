"""What the pages say about a layer and its units."""

import dataclasses
import re
from typing import Any

from fvfast.atlas.examples.records import ExamplesRecord
from fvfast.atlas.gallery.scripts import thinned
from fvfast.atlas.planned_layers import PlannedLayer
from fvfast.atlas.records import Record

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclasses.dataclass
class ShownLayer:
    """A layer and its units: the lists have one entry for each unit that is shown, by index."""

    planned: PlannedLayer
    slug: str
    index: list[int] = dataclasses.field(default_factory=list)
    name: list[str | None] = dataclasses.field(default_factory=list)
    score: list[float | None] = dataclasses.field(default_factory=list)
    active: list[float | None] = dataclasses.field(default_factory=list)
    version: list[str] = dataclasses.field(default_factory=list)
    blended: list[int] = dataclasses.field(default_factory=list)
    examples: list[int] = dataclasses.field(default_factory=list)
    set_aside: int = 0
    seconds: float = 0.0
    dates: list[str] = dataclasses.field(default_factory=list)

    @property
    def page(self) -> str:
        """Name of its page."""
        return f"layer-{self.slug}.html"

    @property
    def count(self) -> int:
        """Number of units that are shown."""
        return len(self.index)

    @property
    def with_examples(self) -> int:
        """Number of units that have examples."""
        return sum(map(bool, self.examples))

    @property
    def waiting(self) -> int:
        """Number of planned units that are neither shown nor set aside."""
        return len(self.planned) - self.count - self.set_aside

    def thumbnail(self, position: int) -> str:
        """Return the name of a unit's thumbnail."""
        return f"thumbnails/{self.slug}/{self.index[position]}.{self.version[position]}.webp"

    def columns(self) -> dict[str, Any]:
        """Return what the list of units needs."""
        names = ("index", "name", "score", "active", "version", "blended", "examples")
        return {name: getattr(self, name) for name in names}

    def add(self, record: Record, version: str, examples: ExamplesRecord | None) -> None:
        """Add the next unit, with the examples that are shown."""
        index = record.key.index
        self.index.append(index)
        self.name.append(record.name or (self.planned.names or {}).get(index))
        self.score.append(record.score)
        self.active.append(examples.active_share if examples else None)
        self.version.append(version)
        self.blended.append(int(record.transparency is not None))
        self.examples.append(len(examples.top) if examples else 0)
        self.seconds += record.seconds or 0.0
        if record.drawn_at is not None and _DATE.match(record.drawn_at):
            date = record.drawn_at[:10]
            self.dates = [min([*self.dates, date]), max([*self.dates, date])]


def unit_details(record: Record, examples: ExamplesRecord | None) -> dict[str, Any]:
    """Return what the page of a unit says besides what the list of units has.

    Names of hosts stay out: pages are published.
    """
    scores, stride = thinned(record.scores or [])
    return {
        "width": record.picture.width,
        "height": record.picture.height,
        "scores": scores,
        "stride": stride,
        "steps": record.steps,
        "seconds": record.seconds,
        "batch": record.batch_size,
        "device": record.device,
        "drawn": record.drawn_at,
        "fvfast": record.fvfast,
        "command": record.command,
        "examples": None if examples is None else _examples(examples),
    }


def _examples(examples: ExamplesRecord) -> dict[str, Any]:
    return {
        "images": examples.images,
        "unreadable": examples.unreadable,
        "mean": examples.mean,
        "edges": examples.edges,
        "counts": examples.counts,
        "top": [
            {
                "crop": crop_name(one.file, one.sha256),
                "value": one.value,
                "source": one.source,
                "label": one.label,
                "position": one.position,
                "box": one.box,
                "size": one.image_size,
            }
            for one in examples.top
        ],
    }


def crop_name(file: str, sha256: str) -> str:
    """Return the name that a crop has among the crops of its layer."""
    stem, _, suffix = file.rsplit("/", 1)[-1].rpartition(".")
    return f"{stem}.{sha256[:10]}.{suffix}"
