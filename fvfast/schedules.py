"""Numbers that change over the steps of a run: the size of crops, the noise, the learning rate."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvfast.targets import is_number

Schedule = Callable[[int], float]
"""Maps a step, from 0, to the value in that step."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """Goes from one value to another in equal differences, over however many steps a run has.

    Attributes
    ----------
    first, last
        Values of the first and of the last step: finite and not negative.
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        for end in (self.first, self.last):
            _checked(type(self).__name__, end)

    def over(self, nb_steps: int) -> NDArray[np.float64]:
        """Values of all steps."""
        return np.linspace(self.first, self.last, nb_steps)


@dataclasses.dataclass(frozen=True)
class Geometric(Linear):
    """Goes from one positive value to another in equal ratios, over the steps of a run.

    Attributes
    ----------
    first, last
        Values of the first and of the last step: finite and positive.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.first, self.last) == 0:
            raise ValueError(f"a geometric schedule needs two positive values, got {self}.")

    def over(self, nb_steps: int) -> NDArray[np.float64]:
        """Values of all steps."""
        # As numpy.logspace computes them.
        return np.power(10.0, np.linspace(math.log10(self.first), math.log10(self.last), nb_steps))


ScheduleSpec = float | Schedule | Linear | None


def schedule_of(
    argument: str, value: ScheduleSpec, nb_steps: int, default: Linear | None = None
) -> Schedule:
    """Value of each step.

    Parameters
    ----------
    argument
        What messages call it.
    value
        A number, a function of the step, a `Linear` or `Geometric`, or None for the default.
    nb_steps
        Number of steps.
    default
        What None stands for.

    Raises
    ------
    TypeError
        The value is none of these.
    ValueError
        A number is negative or not finite; one that a function returns, in its step.
    """
    value = default if value is None else value
    if isinstance(value, Linear):
        values = value.over(nb_steps)
        return lambda step: float(values[step])
    if is_number(value):
        constant = _checked(argument, value)
        return lambda _step: constant
    if callable(value):
        function = value
        return lambda step: _checked(argument, function(step))
    raise TypeError(
        f"{argument} must be a number, a function of the step, a Linear or Geometric schedule, or "
        f"None; got {type(value).__name__}."
    )


def _checked(name: str, value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name} must be finite and not negative, got {number}.")
    return number
