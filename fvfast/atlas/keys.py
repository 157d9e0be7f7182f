"""Names of the files of an atlas: one scheme for all who read and write them."""

import dataclasses
import re
import urllib.parse
from collections.abc import Iterable

FORMAT = 1
"""Of the files; raised when a reader of old files would misread new ones."""

PLAN = "plan.json"
UNITS, FAILED, EXAMPLES = "units", "failed", "examples"
MANIFESTS = ("manifest.parquet", "manifest.csv")
LONGEST_LAYER = 200
"""Characters of a layer's name in a path; file systems allow 255 bytes."""

_RECORD = re.compile(r"(0|[1-9][0-9]{0,17})\.json")


@dataclasses.dataclass(frozen=True, order=True)
class UnitKey:
    """Which unit of an atlas.

    Attributes
    ----------
    layer
        Name of the layer, as the network has it.
    index
        Index of the channel, neuron, class or direction.
    """

    layer: str
    index: int

    def __str__(self) -> str:
        return f"{quoted(self.layer)}/{self.index}"

    @property
    def picture(self) -> str:
        """Path of the picture in the place."""
        return f"{UNITS}/{self}.png"

    @property
    def transparency(self) -> str:
        """Path of the transparency in the place."""
        return f"{UNITS}/{self}.transparency.png"

    @property
    def record(self) -> str:
        """Path of the record, without which the unit counts as not drawn."""
        return f"{UNITS}/{self}.json"

    @property
    def failure(self) -> str:
        """Path of what is known of failed attempts."""
        return f"{FAILED}/{self}.json"

    @property
    def examples(self) -> str:
        """Path of the record of the images that excite the unit."""
        return f"{EXAMPLES}/{self}.json"

    def crop(self, rank: int) -> str:
        """Return the path of the crop of one of these images."""
        return f"{EXAMPLES}/{self}.{rank}.webp"

    @classmethod
    def parse(cls, text: str) -> "UnitKey":
        """Read what ``str`` returns.

        Raises
        ------
        ValueError
            The text is no key.
        """
        layer, slash, index = text.partition("/")
        if not slash or not layer or not index.isdecimal() or not index.isascii():
            raise ValueError(f"{text!r} is not the key of a unit; expected LAYER/INDEX.")
        return cls(urllib.parse.unquote(layer), int(index))


def quoted(layer: str) -> str:
    """Return a layer's name as one part of a path, in which no character has a meaning."""
    return urllib.parse.quote(layer, safe="")


def index_of(name: str) -> int | None:
    """Return the index of a unit, by the name of its record; None for another file."""
    match = _RECORD.fullmatch(name)
    return None if match is None else int(match[1])


def indices_of(names: Iterable[str]) -> set[int]:
    """Return the indices of the records (or failures) among the names of a layer's files."""
    return {index for index in map(index_of, names) if index is not None}
