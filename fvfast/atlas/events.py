"""What a worker tells whoever follows it. Small, and the same in a process and across machines."""

import dataclasses
from collections.abc import Callable

from fvfast.atlas.keys import UnitKey


@dataclasses.dataclass(frozen=True)
class UnitDrawn:
    """A unit's record is written.

    Attributes
    ----------
    key
        Which unit.
    """

    key: UnitKey


@dataclasses.dataclass(frozen=True)
class AttemptFailed:
    """An attempt to draw a unit has failed.

    Attributes
    ----------
    key
        Which unit.
    attempts
        How many have failed so far.
    is_set_aside
        Whether it was the last one.
    error
        What happened, in a line.
    """

    key: UnitKey
    attempts: int
    is_set_aside: bool
    error: str


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that the user should know.

    Attributes
    ----------
    text
        A line.
    """

    text: str


Event = UnitDrawn | AttemptFailed | Note
Report = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Follow nothing."""
