"""How many images are drawn together: what larger batches cost decides."""

import math

import pytest
import torch

from fvfast.run.batch_sizes import SHARE, BatchCost, BatchSizes, CostMeter
from fvfast.run.step_timer import SETUP_STEPS, StepTimer

FREE = 10**9


def sizes_of(seconds, count, peak=10**6, free=FREE, first=2):
    """Sizes of batches of which a step takes seconds(images), and needs memory for each image."""
    sizes = BatchSizes(first, grows=True)
    chosen = []
    for _ in range(count):
        chosen.append(sizes.size)
        sizes.learn(BatchCost(sizes.size, seconds(sizes.size), peak * sizes.size, free))
    return chosen


def test_a_batch_grows_until_that_saves_no_time():
    """A step takes as long for 1 as for 16 images, and then longer: 32 take 1.95 times as long."""
    expected = [2, 4, 8, 16, 32, 16, 16]
    assert sizes_of(lambda images: max(1.0, images / 16.4), 7) == expected


@pytest.mark.parametrize(("gain", "expected"), [(0.96, [2, 4, 2, 2]), (0.9, [2, 4, 8, 16])])
def test_a_gain_has_to_be_worth_it(gain, expected):
    assert sizes_of(lambda images: images * gain ** math.log2(images), 4) == expected


def test_no_batch_is_tried_that_might_not_fit():
    assert sizes_of(lambda _: 1.0, 6, peak=FREE * SHARE / 8) == [2, 4, 8, 8, 8, 8]
    assert sizes_of(lambda _: 1.0, 3, free=None) == [2, 2, 2]


@pytest.mark.parametrize("cost", [BatchCost(2, math.nan, 1, FREE), BatchCost(1, 1.0, 1, FREE)])
def test_what_tells_nothing_changes_nothing(cost):
    """Runs that are too short to be timed, and last batches, which are not whole."""
    sizes = BatchSizes(2, grows=True)
    sizes.learn(cost)
    assert sizes.size == 2
    sizes.learn(BatchCost(2, 1.0, 1, FREE))
    assert sizes.size == 4


def test_a_size_that_was_given_stays():
    sizes = BatchSizes(2, grows=False)
    sizes.learn(BatchCost(2, 1.0, 1, FREE))
    assert sizes.size == 2


def test_nothing_is_measured_on_the_cpu():
    cpu = torch.device("cpu")
    meter, timer = CostMeter(cpu), StepTimer(cpu)
    meter.begin()
    for steps in range(SETUP_STEPS + 9):
        timer.after(steps)
    assert math.isnan(timer.seconds_per_step())
    assert meter.end(3, 1.0) == BatchCost(3, 1.0, 0, None)
