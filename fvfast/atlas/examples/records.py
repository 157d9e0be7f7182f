"""The record of a unit's examples: as it is written into an atlas, and as it is read from one."""

import dataclasses
from collections.abc import Mapping

from fvfast.atlas.examples.unit_examples import UnitExamples
from fvfast.atlas.fields import Fields
from fvfast.atlas.keys import EXAMPLES, FORMAT, UnitKey, quoted
from fvfast.atlas.plan import canonical
from fvfast.atlas.records import check_key
from fvfast.atlas.stored import StoredFile, read_file_in


def encode_examples(
    unit: UnitExamples,
    files: Mapping[int, StoredFile],
    *,
    images: int,
    unreadable: int,
    size: tuple[int, int],
) -> bytes:
    """Return the text of a unit's record.

    Parameters
    ----------
    unit
        The unit.
    files
        The crop of each rank.
    images, unreadable
        How many images were read, and how many could not be.
    size
        (H, W) of the network's input.
    """
    values = {
        "format": FORMAT,
        "key": str(unit.key),
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
                **dataclasses.asdict(files[example.rank]),
                "source": example.source,
                "label": example.label,
                "position": None if example.position is None else list(example.position),
                "box": list(example.box),
                "image_size": list(size),
            }
            for example in unit.top
        ],
    }
    return canonical(values).encode()


@dataclasses.dataclass(frozen=True)
class StoredExample(StoredFile):
    """An image that excites a unit: its crop, and where it is from. None: was not recorded.

    Attributes
    ----------
    file, sha256
        Of the crop; see `fvfast.atlas.stored.StoredFile`.
    value
        The unit's largest activation in the image.
    source, label
        Where the image is from, and its class.
    position
        Row and column of the activation in the layer.
    box
        Top, left, bottom, right of the part of the network's input that is shown.
    image_size
        (H, W) of that input.
    """

    value: float | None
    source: str | None
    label: str | None
    position: list[float] | None
    box: list[float] | None
    image_size: list[float] | None

    @classmethod
    def read(cls, fields: Fields, folder: str) -> "StoredExample":
        """Read the part of a record, whose crops are in a folder."""
        return cls(
            file=read_file_in(fields, folder, ".webp"),
            sha256=fields.sha256("sha256"),
            value=fields.optional_number("value"),
            source=fields.optional_text("source"),
            label=fields.optional_text("label"),
            position=fields.optional_numbers("position", 2),
            box=fields.optional_numbers("box", 4),
            image_size=fields.optional_numbers("image_size", 2),
        )


@dataclasses.dataclass(frozen=True)
class ExamplesRecord:
    """How a unit responds to a set of images.

    Attributes
    ----------
    images, unreadable
        How many were read, and how many could not be.
    mean, active_share, edges, counts
        See `UnitExamples`.
    top
        The images that excite it most.
    """

    images: int
    unreadable: int
    mean: float | None
    active_share: float | None
    edges: list[float | None]
    counts: list[int]
    top: tuple[StoredExample, ...]

    @classmethod
    def parse(cls, data: bytes, key: UnitKey) -> "ExamplesRecord":
        """Read the text of a unit's record.

        Raises
        ------
        WrongFileError
            A field is missing or of another type, or the record is of another unit.
        """
        fields = Fields.parse(data, key.examples)
        check_key(fields, key)
        histogram = fields.inner("histogram")
        edges = histogram.numbers("edges")
        share = fields.optional_number("active_share")
        if share is not None and not 0 <= share <= 1:
            raise fields.error(f"has an active_share of {share}; expected 0 to 1.")
        folder = f"{EXAMPLES}/{quoted(key.layer)}"
        return cls(
            images=fields.count("images"),
            unreadable=fields.optional_count("images_unreadable") or 0,
            mean=fields.optional_number("mean"),
            active_share=share,
            edges=edges,
            counts=histogram.counts("counts", max(len(edges) - 1, 0)),
            top=tuple(
                StoredExample.read(Fields(one, f"{key.examples}, example {rank},"), folder)
                for rank, one in enumerate(fields.listed("top"))
            ),
        )


def _short(value: float | None) -> float | None:
    """Round to as many digits as a float32 has at most."""
    return None if value is None else float(f"{value:.9g}")
