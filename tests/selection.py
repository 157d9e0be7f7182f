"""Parameters of tests that only the thorough suite has.

A test with several lists of parameters is in the short suite where each of them is.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest


def thorough(*values: Any, id: str | None = None) -> Any:  # noqa: A002, the name is pytest's
    """Return one set of parameters that the short suite leaves out."""
    return pytest.param(*values, marks=pytest.mark.thorough, id=id)


def short_for(kept: Iterable[Hashable], parameters: Iterable[Any]) -> list[Any]:
    """Return parameters, all of them thorough but those that the short suite keeps.

    Parameters
    ----------
    kept
        Parameters, as they are in the list: values, or tuples of values.
    parameters
        What ``pytest.mark.parametrize`` takes.
    """
    kept, parameters = set(kept), list(parameters)
    if unknown := kept - set(parameters):
        raise ValueError(f"kept: expected some of the parameters, got {unknown}")
    return short_where(kept.__contains__, parameters)


def short_where(is_short: Callable[[Any], bool], parameters: Iterable[Any]) -> list[Any]:
    """Return parameters, those thorough for which a function says that they are not short."""
    return [one if is_short(one) else _marked(one) for one in parameters]


def _marked(parameter: Any) -> Any:
    return thorough(*(parameter if isinstance(parameter, tuple) else (parameter,)))
