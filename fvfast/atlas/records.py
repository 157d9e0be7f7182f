"""The record of a unit: how its picture was made, and its hash. The record is the commit."""

import dataclasses
import hashlib
import json
from typing import Any

from fvfast.atlas.fields import Fields, WrongFileError
from fvfast.atlas.keys import FORMAT, UnitKey


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """A file of an image.

    Attributes
    ----------
    file
        Path in the place.
    sha256, size
        Of the file; the size in bytes.
    width, height
        Of the image.
    """

    file: str
    sha256: str
    size: int
    width: int
    height: int

    @classmethod
    def of(cls, file: str, data: bytes, width: int, height: int) -> "StoredImage":
        """Describe a file that is about to be written."""
        return cls(file, hashlib.sha256(data).hexdigest(), len(data), width, height)

    @classmethod
    def read(cls, fields: Fields) -> "StoredImage":
        """Read the part of a record."""
        return cls(
            fields.get("file", str),
            fields.get("sha256", str),
            fields.get("bytes", int),
            fields.get("width", int),
            fields.get("height", int),
        )

    def described(self) -> dict[str, Any]:
        """Return the part of a record."""
        values = dataclasses.asdict(self)
        return values | {"bytes": values.pop("size")}

    def check(self, data: bytes) -> None:
        """Raise WrongFileError unless the file is the one that was described."""
        if len(data) != self.size or hashlib.sha256(data).hexdigest() != self.sha256:
            raise WrongFileError(f"{self.file} is not the file that its record describes.")


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a unit that was drawn. Fields that are None were not recorded.

    Attributes
    ----------
    plan
        Hash of the plan.
    key
        Which unit.
    kind
        What it is.
    name
        Of the unit, such as that of a class.
    picture, transparency
        The files; a record of another program may lack the transparency.
    scores
        One for each step, with six digits.
    score
        The last one.
    steps
        How many were taken.
    seconds
        Of the batch, for each of its pictures.
    batch_size
        Pictures that were drawn together.
    device, host
        Where.
    attempt
        From 1.
    drawn_at
        When, in UTC.
    fvfast
        The version.
    command
        Draws the picture again.
    """

    plan: str
    key: UnitKey
    kind: str
    name: str | None
    picture: StoredImage
    transparency: StoredImage | None
    scores: list[float] | None
    score: float | None
    steps: int | None
    seconds: float | None
    batch_size: int | None
    device: str | None
    host: str | None
    attempt: int | None
    drawn_at: str | None
    fvfast: str | None
    command: str | None

    def encode(self) -> bytes:
        """Return the text of the file."""
        values = dataclasses.asdict(self)
        stored = self.picture, self.transparency
        values |= {
            name: None if one is None else one.described()
            for name, one in zip(("picture", "transparency"), stored, strict=True)
        }
        values |= {
            "format": FORMAT,
            "key": str(self.key),
            "layer": self.key.layer,
            "index": self.key.index,
        }
        return f"{json.dumps(values, sort_keys=True, allow_nan=False)}\n".encode()

    @classmethod
    def parse(cls, data: bytes, where: str) -> "Record":
        """Read the text of a record.

        Raises
        ------
        WrongFileError
            It is none.
        """
        fields = Fields.parse(data, where)
        fields.check_format(FORMAT)
        key = UnitKey(fields.get("layer", str), fields.get("index", int))
        if str(key) != fields.get("key", str):
            raise WrongFileError(f"{where} has the key {fields.values['key']!r}, not {str(key)!r}.")
        has_transparency = fields.optional("transparency", dict) is not None
        return cls(
            plan=fields.get("plan", str),
            key=key,
            kind=fields.get("kind", str),
            name=fields.optional("name", str),
            picture=StoredImage.read(fields.part("picture")),
            transparency=StoredImage.read(fields.part("transparency"))
            if has_transparency
            else None,
            scores=_scores(fields),
            score=fields.optional("score", float),
            steps=fields.optional("steps", int),
            seconds=fields.optional("seconds", float),
            batch_size=fields.optional("batch_size", int),
            device=fields.optional("device", str),
            host=fields.optional("host", str),
            attempt=fields.optional("attempt", int),
            drawn_at=fields.optional("drawn_at", str),
            fvfast=fields.optional("fvfast", str),
            command=fields.optional("command", str),
        )


def _scores(fields: Fields) -> list[float] | None:
    scores: list[Any] | None = fields.optional("scores", list)
    if scores is None:
        return None
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, (int, float)):
            raise WrongFileError(f"{fields.where} has {score!r} among its scores.")
    return [float(score) for score in scores]
