"""The files of an atlas, checked field by field: nothing in them is taken on trust."""

import dataclasses
import hashlib
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from fvfast.atlas.gallery.fields import Fields

PLAN = "plan.json"
_LARGEST_SIDE = 2**14
_PICTURE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.png")
_CROP_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.webp")


@dataclasses.dataclass(frozen=True)
class PlannedLayer:
    """A layer of the plan, with the half open ranges of its units."""

    name: str
    kind: str
    units: tuple[tuple[int, int], ...]
    names: Mapping[int, str]

    @property
    def quoted(self) -> str:
        """The layer's name in keys and names of folders."""
        return urllib.parse.quote(self.name, safe="")

    @property
    def count(self) -> int:
        """Number of units."""
        return sum(end - begin for begin, end in self.units)

    def __contains__(self, index: int) -> bool:
        return any(begin <= index < end for begin, end in self.units)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an atlas is of; ``digest`` is the SHA-256 of its file, which the records repeat."""

    digest: str
    fvfast: str
    network: str
    weights: str
    input_shape: tuple[int, ...]
    layers: tuple[PlannedLayer, ...]
    settings: tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class StoredPicture:
    """A picture of an atlas: its file, and what is known of it."""

    file: str
    sha256: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class UnitRecord:
    """A unit that was drawn."""

    index: int
    name: str | None
    picture: StoredPicture
    transparency: StoredPicture | None
    score: float | None
    scores: list[float | None]
    steps: int | None
    seconds: float | None
    batch_size: int | None
    device: str | None
    drawn_at: str | None
    fvfast: str | None
    command: str | None


@dataclasses.dataclass(frozen=True)
class Example:
    """An image that excites a unit: the crop, and where it is from."""

    file: str
    sha256: str
    value: float | None
    source: str | None
    label: str | None
    position: list[float] | None
    box: list[float] | None
    image_size: list[float] | None


@dataclasses.dataclass(frozen=True)
class ExamplesRecord:
    """How a unit responds to a set of images."""

    images: int
    unreadable: int
    mean: float | None
    active_share: float | None
    edges: list[float | None]
    counts: list[int]
    top: tuple[Example, ...]


def parse_plan(data: bytes) -> Plan:
    """Check the bytes of ``plan.json``.

    Raises
    ------
    UnusableFileError
        A field is missing or of another type.
    """
    fields = Fields.parse(data, PLAN)
    network = fields.inner("network")
    shape = network.numbers("input_shape")
    return Plan(
        digest=hashlib.sha256(data).hexdigest(),
        fvfast=fields.text("fvfast"),
        network=network.text("name"),
        weights=network.text("weights_sha256"),
        input_shape=tuple(int(size) for size in shape if size is not None),
        layers=tuple(
            _layer(Fields(layer, f"{PLAN}, layer {number},"))
            for number, layer in enumerate(fields.listed("layers"), start=1)
        ),
        settings=tuple(fields.inner("settings").items()),
    )


def _layer(fields: Fields) -> PlannedLayer:
    ranges = []
    for pair in fields.listed("units"):
        begin, end = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end):
            raise fields.error(f"has units {pair!r}; expected [first, end] with 0 <= first <= end.")
        ranges.append((begin, end))
    name = fields.text("name")
    try:
        urllib.parse.quote(name, safe="")
    except UnicodeEncodeError as error:
        raise fields.error("has a name that is not Unicode text.") from error
    return PlannedLayer(name, fields.text("kind"), tuple(ranges), _names(fields))


def _names(fields: Fields) -> dict[int, str]:
    if fields.raw("names") is None:
        return {}
    names = fields.inner("names")
    return {int(key): names.text(key) for key, _ in names.items() if key.isdecimal()}


def parse_unit(data: bytes, file: str, plan: Plan, layer: PlannedLayer, index: int) -> UnitRecord:
    """Check the record of a unit.

    Raises
    ------
    UnusableFileError
        A field is missing or of another type, or the record is that of another unit or plan.
    """
    fields = Fields.parse(data, file)
    _check_identity(fields, layer, index)
    if fields.sha256("plan") != plan.digest:
        raise fields.error(
            f"belongs to another plan, {fields.text('plan')[:12]}; that of this place is "
            f"{plan.digest[:12]}. Draw the unit again."
        )
    folder = f"units/{layer.quoted}"
    transparent = fields.raw("transparency") is not None
    return UnitRecord(
        index=index,
        name=fields.optional_text("name") or layer.names.get(index),
        picture=_picture(fields.inner("picture"), folder),
        transparency=_picture(fields.inner("transparency"), folder) if transparent else None,
        score=fields.optional_number("score"),
        scores=fields.numbers("scores", gaps=True) if fields.raw("scores") is not None else [],
        steps=fields.optional_count("steps"),
        seconds=fields.optional_number("seconds"),
        batch_size=fields.optional_count("batch_size"),
        device=fields.optional_text("device"),
        drawn_at=fields.optional_text("drawn_at"),
        fvfast=fields.optional_text("fvfast"),
        command=fields.optional_text("command"),
    )


def parse_examples(data: bytes, file: str, layer: PlannedLayer, index: int) -> ExamplesRecord:
    """Check the record of a unit's examples.

    Raises
    ------
    UnusableFileError
        A field is missing or of another type, or the record is that of another unit.
    """
    fields = Fields.parse(data, file)
    _check_identity(fields, layer, index)
    histogram = fields.inner("histogram")
    edges = histogram.numbers("edges")
    share = fields.optional_number("active_share")
    if share is not None and not 0 <= share <= 1:
        raise fields.error(f"has an active_share of {share}; expected 0 to 1.")
    return ExamplesRecord(
        images=fields.count("images"),
        unreadable=fields.optional_count("images_unreadable") or 0,
        mean=fields.optional_number("mean"),
        active_share=share,
        edges=edges,
        counts=histogram.counts("counts", max(len(edges) - 1, 0)),
        top=tuple(
            _example(Fields(one, f"{file}, example {rank},"), f"examples/{layer.quoted}")
            for rank, one in enumerate(fields.listed("top"))
        ),
    )


def _check_identity(fields: Fields, layer: PlannedLayer, index: int) -> None:
    found = (fields.text("layer"), fields.count("index"))
    if found != (layer.name, index):
        raise fields.error(
            f"is of unit {found[1]} of layer {found[0]!r}; its name says unit {index} of "
            f"layer {layer.name!r}."
        )


def _picture(fields: Fields, folder: str) -> StoredPicture:
    width, height = fields.count("width"), fields.count("height")
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise fields.error(
            f"has {width} x {height} pixels; expected sides of 1 to {_LARGEST_SIDE}."
        )
    return StoredPicture(
        _file_in(fields, folder, _PICTURE_NAME), fields.sha256("sha256"), width, height
    )


def _example(fields: Fields, folder: str) -> Example:
    return Example(
        file=_file_in(fields, folder, _CROP_NAME),
        sha256=fields.sha256("sha256"),
        value=fields.optional_number("value"),
        source=fields.optional_text("source"),
        label=fields.optional_text("label"),
        position=fields.optional_numbers("position", 2),
        box=fields.optional_numbers("box", 4),
        image_size=fields.optional_numbers("image_size", 2),
    )


def _file_in(fields: Fields, folder: str, names: re.Pattern[str]) -> str:
    """Return the name of a file, which must be in a folder: a record leads nowhere else."""
    file = fields.text("file")
    if not file.startswith(f"{folder}/") or not names.fullmatch(file[len(folder) + 1 :]):
        raise fields.error(f"names the file {file!r}; expected one in the folder {folder}.")
    return file
