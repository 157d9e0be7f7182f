"""What workers tell their driver besides events."""

import traceback
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from fvfast.atlas.events import Event, Note
from fvfast.atlas.failures import NotEnoughMemoryError
from fvfast.atlas.networks import OtherNetworkError
from fvfast.atlas.patience import PlaceLostError

_MISTAKES = (
    OtherNetworkError, NotEnoughMemoryError, PlaceLostError, ImportError, TypeError, ValueError,
    OSError,
)  # fmt: skip


class Ready(NamedTuple):
    """The network is loaded."""


class Done(NamedTuple):
    """A shard is drawn."""

    shard: int


class Broken(NamedTuple):
    """The device answers nothing any more: the worker has to be replaced."""

    text: str


class Answer(NamedTuple):
    """What became of a shard, with the events that were not told yet."""

    message: "Done | Broken | Refused | Crashed"
    events: list[Event]


class Refused(NamedTuple):
    """No worker can draw this: the whole job is wrong."""

    error: Exception


class Crashed(NamedTuple):
    """An error that is not that of a unit."""

    text: str


def send_warnings(report: Callable[[Event], None]) -> None:
    """From now on, tell the driver of warnings, which shows each once."""

    def show(message: Warning | str, *_place: Any, **_where: Any) -> None:
        report(Note(f"warning: {message}"))

    warnings.showwarning = show


def refusal(error: Exception) -> Refused | Crashed:
    """Describe an error, without what it refers to; it is being handled."""
    for kind in _MISTAKES:
        if isinstance(error, kind):
            # Of a type that the driver has, too.
            return Refused(kind(str(error)))
    return Crashed(traceback.format_exc())
