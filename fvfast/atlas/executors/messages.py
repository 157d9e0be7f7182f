"""What workers tell their driver besides events."""

import traceback
from typing import NamedTuple

from fvfast.atlas.networks import OtherNetworkError

_MISTAKES = (OtherNetworkError, ImportError, TypeError, ValueError, OSError)


class Ready(NamedTuple):
    """The network is loaded."""


class Done(NamedTuple):
    """A shard is drawn."""

    shard: int


class Broken(NamedTuple):
    """The device answers nothing any more: the worker has to be replaced."""

    text: str


class Refused(NamedTuple):
    """No worker can draw this: the whole job is wrong."""

    error: Exception


class Crashed(NamedTuple):
    """An error that is not that of a unit."""

    text: str


def refusal(error: Exception) -> Refused | Crashed:
    """Describe an error, without what it refers to; it is being handled."""
    for kind in _MISTAKES:
        if isinstance(error, kind):
            # Of a type that the driver has, too.
            return Refused(kind(str(error)))
    return Crashed(traceback.format_exc())
