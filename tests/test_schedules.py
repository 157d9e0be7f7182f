"""Numbers that change over the steps of a run."""

import math

import numpy as np
import pytest

from fvfast import Geometric, Linear
from fvfast.run.presets import FALLING_NOISE
from fvfast.run.schedules import schedule_of


@pytest.mark.parametrize("nb_steps", [1, 2, 3, 256])
@pytest.mark.parametrize(("schedule", "spread"), [(Linear, np.linspace), (Geometric, np.geomspace)])
def test_schedules_span_the_run(schedule, spread, nb_steps):
    at = schedule_of("box_size", schedule(0.5, 0.05), nb_steps)
    expected = spread(0.5, 0.05, nb_steps)
    assert [at(step) for step in range(nb_steps)] == pytest.approx(list(expected), rel=1e-12)


def test_falling_noise_is_that_of_xplique():
    at = schedule_of("noise_intensity", None, 256, FALLING_NOISE)
    assert [at(step) for step in range(256)] == list(np.logspace(0, -4, 256))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, [2, 2, 2]),
        (np.float32(0.5), [0.5, 0.5, 0.5]),
        (lambda step: step / 4, [0, 0.25, 0.5]),
        (Linear(0, 1), [0, 0.5, 1]),
        (Geometric(1, 4), [1, 2, 4]),
        (None, [3, 2, 1]),
    ],
)
def test_every_form_of_a_schedule(value, expected):
    at = schedule_of("learning_rate", value, 3, Linear(3, 1))
    assert [at(step) for step in range(3)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [-1e-9, math.inf, math.nan])
def test_values_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match="noise_intensity must be finite and not negative"):
        schedule_of("noise_intensity", bad, 3)
    at = schedule_of("noise_intensity", lambda _step: bad, 3)
    with pytest.raises(ValueError, match="noise_intensity must be finite and not negative"):
        at(0)
    for schedule in (Linear, Geometric):
        with pytest.raises(ValueError, match="finite and not negative"):
            schedule(1, bad)


def test_a_geometric_schedule_does_not_reach_zero():
    with pytest.raises(ValueError, match="two positive values"):
        Geometric(1, 0)


@pytest.mark.parametrize("value", ["falling", [1, 0.5], True])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="box_size must be a number, a function of the step"):
        schedule_of("box_size", value, 3)
