"""Reads the fields of a JSON file, and names the file and the field that is wrong."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from fvfast._shared.messages import printable, shortened
from fvfast.atlas.keys import FORMAT

_LONGEST_VALUE = 60
_SHA256 = re.compile(r"[0-9a-f]{64}")


class WrongFileError(ValueError):
    """A file of an atlas is damaged, or is not what its name says: the message names it."""


class Fields:
    """The fields of one JSON object.

    Parameters
    ----------
    values
        The object.
    where
        The file's name, and where in it the object is: for messages.

    Raises
    ------
    WrongFileError
        It is not an object. All methods raise this error for a field of another type.
    """

    def __init__(self, values: Any, where: str) -> None:
        self.where = where
        if not isinstance(values, Mapping):
            raise self.error(f"holds {_quoted(values)}; expected a JSON object.")
        self._values = values

    @classmethod
    def parse(cls, data: bytes | str, file: str) -> "Fields":
        """Parse a file, whose field "format" must be the one that this version reads."""
        try:
            values = json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise WrongFileError(f"{printable(file)} is not JSON: {error}.") from error
        fields = cls(values, file)
        found = fields.raw("format")
        if found != FORMAT:
            raise fields.error(
                f"has format {_quoted(found)}; this version of fvfast reads format {FORMAT}."
            )
        return fields

    def error(self, problem: str) -> WrongFileError:
        """Return an error that names the file."""
        return WrongFileError(f"{printable(self.where)} {problem}")

    def raw(self, name: str) -> Any:
        """Return a field of any type; None if it is not there."""
        return self._values.get(name)

    def text(self, name: str) -> str:
        """Return a text."""
        return self._typed(name, "a text", _is_text)

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None."""
        return None if self.raw(name) is None else self.text(name)

    def count(self, name: str) -> int:
        """Return an integer of at least 0."""
        return self._typed(name, "an integer of at least 0", _is_count)

    def optional_count(self, name: str) -> int | None:
        """Return an integer of at least 0, or None."""
        return None if self.raw(name) is None else self.count(name)

    def optional_integer(self, name: str) -> int | None:
        """Return an integer, which may be below 0, or None."""
        return None if self.raw(name) is None else self._typed(name, "an integer", _is_integer)

    def optional_number(self, name: str) -> float | None:
        """Return a finite number, or None."""
        return None if self.raw(name) is None else self._typed(name, "a finite number", _is_number)

    def sha256(self, name: str) -> str:
        """Return a SHA-256 in hexadecimal digits."""
        return self._typed(
            name,
            "a SHA-256 of 64 hexadecimal digits",
            lambda value: isinstance(value, str) and bool(_SHA256.fullmatch(value)),
        )

    def numbers(self, name: str, *, gaps: bool = False) -> list[float | None]:
        """Return a list of finite numbers, which may have None where ``gaps`` says so."""
        return self._typed(
            name,
            "a list of finite numbers",
            lambda value: (
                isinstance(value, list)
                and all(_is_number(one) or (gaps and one is None) for one in value)
            ),
        )

    def optional_numbers(self, name: str, length: int) -> list[float] | None:
        """Return a list of so many finite numbers, or None."""
        if self.raw(name) is None:
            return None
        return self._typed(
            name,
            f"a list of {length} finite numbers",
            lambda value: (
                isinstance(value, list) and len(value) == length and all(map(_is_number, value))
            ),
        )

    def counts(self, name: str, length: int) -> list[int]:
        """Return a list of so many integers of at least 0."""
        return self._typed(
            name,
            f"a list of {length} integers of at least 0",
            lambda value: (
                isinstance(value, list) and len(value) == length and all(map(_is_count, value))
            ),
        )

    def listed(self, name: str) -> list[Any]:
        """Return a list of anything."""
        return self._typed(name, "a list", lambda value: isinstance(value, list))

    def inner(self, name: str) -> "Fields":
        """Return the fields of an object in this object."""
        return Fields(self.raw(name), f"{self.where}, field {name!r},")

    def optional_inner(self, name: str) -> "Fields | None":
        """Return the fields of an object in this object, or None."""
        return None if self.raw(name) is None else self.inner(name)

    def items(self) -> list[tuple[str, Any]]:
        """Return all fields, in their order."""
        return list(self._values.items())

    def _typed(self, name: str, expected: str, fits: Callable[[Any], bool]) -> Any:
        value = self.raw(name)
        if not fits(value):
            found = "is missing" if name not in self._values else f"is {_quoted(value)}"
            raise self.error(f"cannot be used: its field {name!r} {found}; expected {expected}.")
        return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _quoted(value: Any) -> str:
    return shortened(printable(repr(value)), _LONGEST_VALUE)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")
