"""Reads JSON that others may have written: what is wrong is said with the name of the file."""

import json
from typing import Any, TypeVar

T = TypeVar("T")


class WrongFileError(ValueError):
    """A file of an atlas is damaged, or is not what its name says."""


class Fields:
    """An object of JSON, with checked access to its fields.

    Parameters
    ----------
    values
        The object.
    where
        The file, and the place in it, for messages.

    Raises
    ------
    WrongFileError
        ``values`` is no object.
    """

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise WrongFileError(f"{where} holds {_kind(values)}; expected an object.")
        self.values = values
        self.where = where

    @classmethod
    def parse(cls, data: bytes | str, where: str) -> "Fields":
        """Read the text of a file."""
        try:
            return cls(json.loads(data), where)
        except (ValueError, RecursionError) as error:
            if isinstance(error, WrongFileError):
                raise
            raise WrongFileError(f"{where} is not JSON ({error}).") from error

    def get(self, name: str, kind: type[T]) -> T:
        """Return a field of a type.

        Raises
        ------
        WrongFileError
            It is missing, or of another type.
        """
        value = self.optional(name, kind)
        if value is None:
            raise WrongFileError(f"{self.where} has no {name!r}; expected {_expected(kind)}.")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return a field of a type; None if it is missing or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)  # type: ignore[return-value]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise WrongFileError(
                f"{self.where} has {_kind(value)} as {name!r}; expected {_expected(kind)}."
            )
        return value

    def part(self, name: str) -> "Fields":
        """Return the object in a field."""
        return Fields(self.get(name, dict), f"{self.where}, {name!r},")

    def check_format(self, newest: int) -> None:
        """Refuse a file that a later version has written."""
        found = self.get("format", int)
        if found != newest:
            raise WrongFileError(
                f"{self.where} has format {found}; this version of fvfast reads format {newest}."
            )


_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}


def _expected(kind: type) -> str:
    return _NAMES[kind]


def _kind(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)
