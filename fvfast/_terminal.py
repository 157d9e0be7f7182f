"""How the console command talks to its user: errors, warnings and interrupts."""

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
import typer
from rich.console import Console
from rich.markup import escape

INTERRUPTED = 130
"""Exit status of a command that its user interrupted, as shells count it (128 + SIGINT)."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that never breaks lines where the output goes to a file or a pipe."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=10_000)


@contextlib.contextmanager
def friendly_errors(debug: bool) -> Iterator[None]:
    """Report errors in one line, with exit status 1, instead of a traceback.

    Parameters
    ----------
    debug
        Let errors through as they are.
    """
    with _brief_warnings():
        try:
            yield
        except (typer.Exit, typer.Abort):
            # These are RuntimeErrors, too.
            raise
        except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
            if debug:
                raise
            print_error(str(error).strip() or type(error).__name__)
            err = console(stderr=True)
            if isinstance(error, torch.cuda.OutOfMemoryError):
                err.print("A smaller --size or --batch-size needs less memory.", soft_wrap=True)
            err.print("[dim]`fvfast --debug ...` shows where it came from.[/]", soft_wrap=True)
            raise typer.Exit(1) from error


def print_error(message: str) -> None:
    """Print an error to stderr."""
    console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


@contextlib.contextmanager
def _brief_warnings() -> Iterator[None]:
    """Print the text of warnings without the line of code that gave them."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **where: Any) -> None:
        if issubclass(category, (UserWarning, RuntimeWarning)):
            console(stderr=True).print(
                f"[yellow]warning:[/] {escape(str(message))}", soft_wrap=True
            )
        else:
            # For developers, who need to know where.
            usual(message, category, *place, **where)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


class StopRequest:
    """Whether the user has asked to stop; true once Ctrl-C has been pressed."""

    def __init__(self) -> None:
        self.made = False

    def __bool__(self) -> bool:
        return self.made


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C into a request to stop after the step; the second one stops at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Python takes signal handlers in the main thread only.
        yield request
        return

    usual = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def remember(_number: int, _frame: FrameType | None) -> None:
        request.made = True
        signal.signal(signal.SIGINT, usual)
        # Not through rich, whose locks the interrupted code may hold.
        sys.stderr.write("\nstopping after this step (Ctrl-C again: at once)\n")

    signal.signal(signal.SIGINT, remember)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, usual)
