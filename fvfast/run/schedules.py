"""Numbers that change over the steps of a run: the size of crops, the noise, the learning rate."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvfast._shared.checks import finite_float32, is_number

Schedule = Callable[[int], float]
"""Maps a step, from 0, to the value in that step."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """Goes from one value to another in equal differences, over all steps of a run.

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

    def at(self, step: int, nb_steps: int) -> float:
        """Value of a step, from 0, of a run."""
        return _between(self.first, self.last, step, nb_steps)

    def over(self, nb_steps: int) -> NDArray[np.float64]:
        """Values of all steps."""
        return np.array([self.at(step, nb_steps) for step in range(nb_steps)])


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
            raise ValueError(f"Geometric: expected two positive values, got {self}.")

    def at(self, step: int, nb_steps: int) -> float:
        """Value of a step, from 0, of a run."""
        # As numpy.logspace computes it; its power of one number differs from that of an array.
        exponent = _between(math.log10(self.first), math.log10(self.last), step, nb_steps)
        return float(np.power(10.0, np.array([exponent]))[0])


def _between(first: float, last: float, step: int, nb_steps: int) -> float:
    """Value of a step as numpy.linspace has it, of any number of steps."""
    intervals = nb_steps - 1
    if step == intervals > 0:
        return float(last)
    width = float(last) - float(first)
    part = width / max(intervals, 1)
    # If the difference is so small that its part would be 0, multiply before dividing.
    return step * part + first if part else step / max(intervals, 1) * width + first


ScheduleSpec = float | Schedule | Linear | None


def schedule_of(
    argument: str, value: ScheduleSpec, nb_steps: int, default: Linear | None = None
) -> Schedule:
    """Return the function from a step to its value.

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
        A number is negative or not finite; for one that a function returns, when that step comes.
    """
    value = default if value is None else value
    if isinstance(value, Linear):
        course = value
        return lambda step: course.at(step, nb_steps)  # steps that are not taken cost nothing
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
    number = finite_float32(value)
    if number is None or number < 0:
        raise ValueError(f"{name} must be finite and not negative, in float32, got {value}.")
    return number
