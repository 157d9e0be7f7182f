"""The record of a unit: how its picture was made, and its hash. The record is the commit."""

import dataclasses
import json
from collections.abc import Sequence

from fvfast.atlas.fields import Fields
from fvfast.atlas.keys import FORMAT, UNITS, UnitKey, quoted
from fvfast.atlas.stored import StoredImage


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
    scores: Sequence[float | None] | None
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
    def parse(cls, data: bytes, key: UnitKey, plan: str | None = None) -> "Record":
        """Read the text of a unit's record.

        Parameters
        ----------
        data
            The text.
        key
            Which unit it must be of.
        plan
            Hash of the plan that it must be of; None for any.

        Raises
        ------
        WrongFileError
            A field is missing or of another type, or the record is of another unit or plan.
        """
        fields = Fields.parse(data, key.record)
        check_key(fields, key)
        found = fields.sha256("plan")
        if plan not in (None, found):
            raise fields.error(
                f"belongs to another plan, {found[:12]}; that of this place is {plan[:12]}. Draw "
                "the unit again."
            )
        folder = f"{UNITS}/{quoted(key.layer)}"
        transparency = fields.optional_inner("transparency")
        return cls(
            plan=found,
            key=key,
            kind=fields.text("kind"),
            name=fields.optional_text("name"),
            picture=StoredImage.read(fields.inner("picture"), folder),
            transparency=None if transparency is None else StoredImage.read(transparency, folder),
            scores=None if fields.raw("scores") is None else fields.numbers("scores", gaps=True),
            score=fields.optional_number("score"),
            steps=fields.optional_count("steps"),
            seconds=fields.optional_number("seconds"),
            batch_size=fields.optional_count("batch_size"),
            device=fields.optional_text("device"),
            host=fields.optional_text("host"),
            attempt=fields.optional_count("attempt"),
            drawn_at=fields.optional_text("drawn_at"),
            fvfast=fields.optional_text("fvfast"),
            command=fields.optional_text("command"),
        )


def check_key(fields: Fields, key: UnitKey) -> None:
    """Make sure that a record is of the unit that the name of its file says.

    Raises
    ------
    WrongFileError
        It is of another one.
    """
    found = UnitKey(fields.text("layer"), fields.count("index"))
    if found != key:
        raise fields.error(
            f"is of unit {found.index} of layer {found.layer!r}; its name says unit {key.index} of "
            f"layer {key.layer!r}."
        )
    if fields.text("key") != str(key):
        raise fields.error(f"has the key {fields.text('key')!r}; expected {str(key)!r}.")
