"""How the console command talks to its user."""

import signal
import warnings

import pytest
import typer

from fvfast import _terminal


def test_a_second_interrupt_stops_at_once():
    # A shell's background jobs inherit an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), _terminal.stop_on_interrupt() as stop:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert stop
        signal.raise_signal(signal.SIGINT)


def test_warnings_are_shown_without_code(capsys):
    with pytest.raises(typer.Exit), _terminal.friendly_errors(False):  # noqa: PT012
        # pytest turns warnings into errors; a user's terminal shows them.
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the gradient is zero", RuntimeWarning, stacklevel=1)
        raise ValueError("enough")
    error = capsys.readouterr().err
    assert "warning: the gradient is zero\n" in error
    assert "error: enough\n" in error
    assert ".py:" not in error


def test_exit_statuses_pass_through():
    with pytest.raises(typer.Exit) as left, _terminal.friendly_errors(False):
        raise typer.Exit(130)
    assert left.value.exit_code == 130


def test_an_error_without_a_message_has_its_name(capsys):
    with pytest.raises(typer.Exit), _terminal.friendly_errors(False):
        raise RuntimeError
    assert capsys.readouterr().err.startswith("error: RuntimeError\n")
