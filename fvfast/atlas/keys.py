"""Names of the files of an atlas: one scheme for all who read and write them."""

import dataclasses
import urllib.parse

FORMAT = 1
"""Of the files; raised when a reader of old files would misread new ones."""

PLAN = "plan.json"
UNITS, FAILED, EXAMPLES = "units", "failed", "examples"
MANIFESTS = ("manifest.parquet", "manifest.csv")
LONGEST_LAYER = 200
"""Characters of a layer's name in a path; file systems allow 255 bytes."""


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


def indices_of(names: list[str]) -> set[int]:
    """Return the indices of the records (or failures) among the names of a layer's files."""
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return {int(stem) for stem in stems if stem.isascii() and stem.isdecimal()}
