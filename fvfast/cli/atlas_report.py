"""What ``fvfast atlas`` shows: a bar while it draws, what became of the units, and a table."""

import math
import sys
import threading
import time
from types import TracebackType

import typer
from rich.table import Table
from tqdm.auto import tqdm

from fvfast._shared.messages import printable, shortened
from fvfast.atlas.events import AttemptFailed, Event, Note, UnitDrawn
from fvfast.atlas.failures import ATTEMPTS
from fvfast.atlas.plan import Plan
from fvfast.atlas.progress import Status
from fvfast.atlas.sizes import drawn_together
from fvfast.cli.output import say
from fvfast.cli.terminal import console, plain, print_error

MISSING, SET_ASIDE = 3, 4
"""Exit statuses: units are missing; none is missing, but some are set aside."""

EXIT_STATUS = (
    "Exit status: 0 if all units are there, or after SIGTERM, which ends the command when the "
    f"batches that were begun are written; {MISSING} if units are missing; {SET_ASIDE} if none is "
    "missing but some are set aside; 1 after an error; 2 if the command line is wrong; 130 after "
    "Ctrl-C."
)

_LISTED = 5
_LONGEST = 300
_SAME = 60.0  # seconds in which the same is not said again


class Follower:
    """Follows the drawing: a bar, and lines above it.

    Parameters
    ----------
    progress
        Whether the bar is shown.

    Attributes
    ----------
    set_aside
        Units that were set aside while it was drawn.
    """

    def __init__(self, *, progress: bool) -> None:
        self.set_aside = 0
        self._bar = tqdm(total=0, unit="unit", delay=1e-3, disable=not progress, smoothing=0.05)
        self._lock = threading.Lock()
        self._notes: dict[str, float] = {}

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def expect(self, status: Status) -> None:
        """Say how far the atlas is before anything is drawn."""
        self._bar.total = len(status.plan)
        self._bar.initial = status.drawn
        self._bar.n = status.drawn
        self._bar.refresh()

    def __call__(self, event: Event) -> None:
        """Show what has happened; called from several threads."""
        with self._lock:
            if isinstance(event, UnitDrawn):
                self._bar.update()
            elif isinstance(event, AttemptFailed):
                self.set_aside += event.is_set_aside
                what = "set aside" if event.is_set_aside else "to be tried again"
                self._line(
                    f"{event.key}: attempt {event.attempts} of {ATTEMPTS} failed, {what}: "
                    f"{shortened(event.error, _LONGEST)}"
                )
            else:
                self._note(event)

    def _note(self, note: Note) -> None:
        # All workers say the same of one place.
        now = time.monotonic()
        if now - self._notes.get(note.text, -math.inf) > _SAME:
            self._notes = {text: at for text, at in self._notes.items() if now - at <= _SAME}
            self._notes[note.text] = now
            self._line(note.text)

    def _line(self, text: str) -> None:
        with self._bar.external_write_mode(file=sys.stderr):
            sys.stderr.write(printable(text) + "\n")


def show_status(status: Status) -> None:
    """Print a table of the layers, and the units that are set aside."""
    table = Table("layer", "kind", "units", "drawn", "missing", "set aside")
    for layer in status.layers:
        table.add_row(
            plain(layer.layer.name),
            layer.layer.kind,
            *map(str, (len(layer.layer), layer.drawn, len(layer.missing), len(layer.set_aside))),
        )
    console().print(table)
    say(batches(status.plan))
    list_set_aside(status)


def batches(plan: Plan) -> str:
    """Say how many pictures are drawn together, and how that was chosen."""
    if plan.batch_size is None:
        return f"{drawn_together(plan)} pictures together, unless who draws them asks otherwise"
    return f"{plan.batch_size} pictures together ({plan.batch_size_chosen})"


def remark(text: str) -> None:
    """Print a line to standard error, so that standard output has the result alone."""
    sys.stderr.write(printable(text) + "\n")


def list_set_aside(status: Status) -> None:
    """Print the units that are set aside, with their errors."""
    aside = status.set_aside
    for failure in aside[:_LISTED]:
        say(f"set aside: {failure.key}: {shortened(failure.error, _LONGEST)}")
        say(f"  traceback in {failure.key.failure}")
    if len(aside) > _LISTED:
        say(f"and {len(aside) - _LISTED} more; `fvfast atlas retry` tries them again")


def summary(status: Status, address: str) -> str:
    """Say how far an atlas is, in a line."""
    aside = f", {len(status.set_aside)} set aside" if status.set_aside else ""
    missing = f", {status.missing} missing" if status.missing else ""
    return f"{status.drawn} of {len(status.plan)} units in {address}{missing}{aside}"


def leave(status: Status) -> None:
    """Leave with the exit status that says whether units are missing or set aside."""
    if status.missing:
        raise typer.Exit(MISSING)
    if status.set_aside:
        print_error(
            f"{len(status.set_aside)} units are set aside; `fvfast atlas retry` tries again."
        )
        raise typer.Exit(SET_ASIDE)
