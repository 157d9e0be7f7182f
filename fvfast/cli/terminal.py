"""Prints errors and warnings of the console command."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import typer
from rich.console import Console
from rich.markup import escape

from fvfast._shared.messages import printable
from fvfast.cli.output import forgive_lost_output
from fvfast.cli.startup import quit_on_interrupt, quit_with
from fvfast.cli.stopping import StopRequest, stop_on_signals


def console(*, stderr: bool = False) -> Console:
    """Return a console that does not wrap lines if the output goes to a file or a pipe."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=10_000)


def plain(text: str) -> str:
    """Return text that a console prints as it is: markup and control characters are escaped."""
    return escape(printable(text, keep="\n"))


def run_program(run: Callable[[], Any]) -> None:
    """Run the console command as the main program of this process.

    Raises
    ------
    SystemExit
        Raised by ``run``.
    """
    forgive_lost_output()
    quit_on_interrupt()
    status: Any = 0
    try:
        run()
    except SystemExit as leaving:
        status = leaving.code
        raise
    finally:
        sys.stdout.flush()
        # The work is done: a signal while Python shuts down must not change the exit status.
        quit_with(status if isinstance(status, int) else int(status is not None))


@contextlib.contextmanager
def friendly_errors(debug: bool) -> Iterator[StopRequest]:
    """Report errors in one line, with exit status 1, instead of a traceback.

    Parameters
    ----------
    debug
        Whether to raise errors unchanged.

    Yields
    ------
    stop
        Whether the user has asked to stop. Unless the block uses its contexts, such a request ends
        the block at once, with the exit status of the signal.
    """
    with _brief_warnings(), stop_on_signals() as stop:
        try:
            yield stop
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt as error:
            raise interrupted(stop) from error
        except Exception as error:
            # Any exception: a network's own module may raise whatever it likes.
            if stop.cut:
                raise interrupted(stop) from error
            if debug:
                raise
            print_error(_described(error))
            err = console(stderr=True)
            if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
                err.print("A smaller --size or --batch-size needs less memory.", soft_wrap=True)
            err.print("[dim]`fvfast --debug ...` shows where it came from.[/]", soft_wrap=True)
            raise typer.Exit(1) from error


def interrupted(stop: StopRequest) -> typer.Exit:
    """Print that the command was interrupted; return the exception to raise."""
    console(stderr=True).print("interrupted", soft_wrap=True)
    return typer.Exit(stop.status)


def print_error(message: str) -> None:
    """Print an error to stderr."""
    console(stderr=True).print(f"[bold red]error:[/] {plain(message)}", soft_wrap=True)


def _described(error: Exception) -> str:
    name, text = type(error).__name__, str(error).strip()
    if not text:
        return name
    # The texts of these are sentences; that of others, such as KeyError('x'), needs the type.
    told = (ValueError, TypeError, ImportError, OSError, RuntimeError)
    return text if isinstance(error, told) else f"{name}: {text}"


@contextlib.contextmanager
def _brief_warnings() -> Iterator[None]:
    """Print warnings without the line of code that they came from."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **where: Any) -> None:
        if issubclass(category, (UserWarning, RuntimeWarning)):
            console(stderr=True).print(f"[yellow]warning:[/] {plain(str(message))}", soft_wrap=True)
        else:
            # Other warnings are for developers, who need the line.
            usual(message, category, *place, **where)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual
