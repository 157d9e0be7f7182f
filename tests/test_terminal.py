"""Errors and warnings of the console command."""

import warnings

import pytest
import typer

from fvfast.cli import terminal


def test_warnings_are_shown_without_code(capsys):
    with pytest.raises(typer.Exit), terminal.friendly_errors(False):  # noqa: PT012
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
    with pytest.raises(typer.Exit) as left, terminal.friendly_errors(False):
        raise typer.Exit(130)
    assert left.value.exit_code == 130


def test_an_error_without_a_message_has_its_name(capsys):
    with pytest.raises(typer.Exit), terminal.friendly_errors(False):
        raise RuntimeError
    assert capsys.readouterr().err.startswith("error: RuntimeError\n")
