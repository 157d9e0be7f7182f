"""A step whose calls are recorded once serves all steps: what differs is read from memory."""

import math

import pytest
import torch
from ops.tables import (
    IDENTITIES,
    KEY,
    RANGE,
    assert_same,
    boxes_of,
    normal,
    table_of,
)
from recorded_calls import recording

from fvfast.ops import inject_noise, random_crops
from fvfast.ops.nadam import nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase


class Loop:
    """Steps around a network whose loss is half the squares of its crops: they are the gradient."""

    def __init__(self):
        half = (2, 3, 24, 11)
        self.magnitude, self.phase = normal(*half[1:], seed=1).abs() + 0.1, normal(*half)
        self.averages = torch.zeros(half), 0.5 + normal(*half, seed=3) ** 2

    def __call__(self, box_size, std, uniform_width, step, identities, nadam):
        rendered = render_phase(self.magnitude, self.phase, RANGE, 20)
        boxes = boxes_of(box_size, step, identities)
        crops = random_crops(
            rendered.image, boxes, 9, std=std, uniform_width=uniform_width, step=step,
            identities=identities, **KEY,
        )  # fmt: skip
        slope = torch.ops.fvfast.crop_gradient(
            crops, boxes, 24, 20, torch.float32, None, None, None
        )
        sums = phase_ascent_(
            slope, rendered, self.magnitude, self.phase, *self.averages, RANGE, **nadam
        )
        return boxes, crops, sums, self.phase, *self.averages


@pytest.mark.compiled
def test_one_recorded_step_serves_all_steps(backend):
    """Arguments of all kernels stay as they were: only the counter in memory moves on."""
    if not backend.startswith(("emulated", "ptx")):
        pytest.skip("about arguments of kernels; tests/test_gpu.py has captured graphs")
    steps, rates = 8, [1 / (1 + step) for step in range(8)]
    numbers = [[0.2 + step / 9, 0.3 / (1 + step), step / 70] for step in range(steps)]
    ours, theirs = Loop(), Loop()
    counter, words = torch.tensor(0), torch.tensor(IDENTITIES)
    rows = torch.cat((table_of(numbers), nadam_table(steps, lr=rates)), 1)
    start = [tensor.clone() for tensor in (ours.phase, *ours.averages)]
    nadam = {"step": counter, "rates": rows[:, 3:]}
    with recording() as recorded:
        found = ours(*rows[:, :3].unbind(1), counter, words, nadam)
    assert len(recorded.calls) >= 5
    for tensor, before in zip((ours.phase, *ours.averages), start, strict=True):
        tensor.copy_(before)
    seen = []
    for step in range(steps):
        counter.fill_(step)
        recorded.replay()
        nadam = {"step": step + 1, "lr": rates[step]}
        expected = theirs(*numbers[step], step, IDENTITIES, nadam)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
        seen.append(found[1].clone())
    assert not any(torch.equal(seen[0], other) for other in seen[1:])

    # Identities, too, are those that lie there now.
    words.copy_(torch.tensor([7, 8]))
    recorded.replay()
    expected = theirs(*numbers[-1], steps - 1, [7, 8], nadam)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_what_a_device_has_is_not_checked_but_harmless(backend):
    """A scale that is no number adds nothing, a negative counter reads the first row."""
    if not backend.startswith("emulated"):
        pytest.skip("on the CPU the host refuses them")
    images, scales, counter = normal(2, 9), table_of([0.25, 0.5]), torch.tensor(1)
    words = torch.tensor(IDENTITIES)
    with recording() as recorded:
        noisy = inject_noise(images, scales, step=counter, identities=words, **KEY)
    for scale in (math.nan, -1.0):
        scales.fill_(scale)
        recorded.replay()
        assert_same(noisy, images)
    scales.copy_(table_of([0.25, 0.5]))
    counter.fill_(-1)
    words += 2**32  # of which the lowest 32 bits count
    recorded.replay()
    expected = inject_noise(images, 0.25, step=2**32 - 1, identities=IDENTITIES, **KEY)
    assert_same(noisy, expected)
