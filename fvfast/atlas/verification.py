"""Compares all files of an atlas with its records, and takes back what is wrong."""

import dataclasses
from collections.abc import Callable

from fvfast.atlas.fields import WrongFileError
from fvfast.atlas.keys import UNITS, UnitKey, indices_of, quoted
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.progress import Status, read_status, side_by_side
from fvfast.atlas.records import Record


@dataclasses.dataclass(frozen=True)
class WrongUnit:
    """A unit whose record or files are not what they should be.

    Attributes
    ----------
    key
        Which unit.
    reason
        What is wrong.
    """

    key: UnitKey
    reason: str


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verify` has found.

    Attributes
    ----------
    status
        How far the atlas is.
    checked
        How many units have a record.
    wrong
        Those of them whose record or files are damaged or missing.
    """

    status: Status
    checked: int
    wrong: list[WrongUnit]

    @property
    def is_right(self) -> bool:
        """Whether all units are there and as their records say."""
        return self.status.is_complete and not self.wrong


def verify(place: Place, *, watch: Callable[[UnitKey], object] = lambda _key: None) -> Verification:
    """Read all pictures of an atlas and compare their hashes with their records.

    Parameters
    ----------
    place
        Where it is.
    watch
        Called after each unit.

    Raises
    ------
    FileNotFoundError
        There is no atlas.
    """
    status = read_status(place)
    plan = status.plan
    checked, wrong = 0, []
    for layer in plan.layers:
        there = indices_of(place.names(f"{UNITS}/{quoted(layer.name)}"))
        keys = [UnitKey(layer.name, index) for index in layer if index in there]
        found = side_by_side(lambda key: what_is_wrong(place, plan, key), keys)
        for key, reason in zip(keys, found, strict=True):
            checked += 1
            if reason:
                wrong.append(WrongUnit(key, reason))
            watch(key)
    return Verification(status, checked, wrong)


def what_is_wrong(place: Place, plan: Plan, key: UnitKey) -> str:
    """Say what is wrong with the record or the files of a unit; empty if nothing."""
    try:
        record = Record.parse(place.read(key.record), key, plan.sha256)
        for stored in filter(None, (record.picture, record.transparency)):
            stored.check(place.read(stored.file))
    except WrongFileError as error:
        return str(error)
    except FileNotFoundError as error:
        return f"a file is missing ({error.filename or error})"
    return ""


def take_back(place: Place, found: Verification) -> int:
    """Make units that are wrong or set aside count as not drawn; return how many."""
    for unit in found.wrong:
        place.remove(unit.key.record)
    for failure in found.status.set_aside:
        place.remove(failure.key.failure)
    return len(found.wrong) + len(found.status.set_aside)
