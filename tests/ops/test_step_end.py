"""The end of a step: what the host's operations write into a record, one after the other."""

import math

import pytest
import torch
from ops.tables import KEY, assert_same, boxes_of, normal, table_of
from recorded_calls import recording

from fvfast.ops.boxes import BoxDistribution
from fvfast.ops.gradient_flags import GRADIENT_NOT_FINITE, GRADIENT_NOT_ZERO
from fvfast.ops.step_end import NextBoxes, end_step_
from fvfast.run.endings import are_finite
from fvfast.run.step_record import PATIENCE_WITHOUT_GRADIENT, RECENT, StepRecord

IMAGES = 21  # more than there are warps
CROPS = 5  # as `boxes_of` draws
HALF = (3, 4, 5)
SIDES = [0.1, 1 / 3, 0.7, 0.05]


class Steps:
    """Random steps of some images, in which some numbers are not finite.

    Parameters
    ----------
    images, parts
        How many, and how many sums of each.
    """

    def __init__(self, images=IMAGES, parts=3, dtype=torch.float32, *, draws=True):
        self.images, self.parts, self.dtype = images, parts, dtype
        self.record = StepRecord(images, torch.get_default_device())
        self.record.make_room()
        self.flags = torch.zeros(images, dtype=torch.int32)
        self.sums = torch.zeros(images, parts, 2, dtype=torch.float64)
        self.phase, self.next_phase = torch.zeros(2, images, *HALF, dtype=dtype).unbind()
        self.boxes = None
        if draws:
            identities = torch.arange(images) * 7
            memory = torch.zeros(images, CROPS, 4)
            self.boxes = NextBoxes(
                memory, table_of(SIDES), identities, KEY["seed"], BoxDistribution()
            )

    def draw(self, step):
        """Make up what the kernels before the end would have left."""
        generator = torch.Generator(device="cpu").manual_seed(step)
        chances = torch.rand(3, self.images, generator=generator, device="cpu")
        bad_scores, bad_flags, bad_phases = (chances < 0.006).to(self.flags.device)
        scores = normal(self.images, seed=step)
        scores[bad_scores] = [math.nan, math.inf, -math.inf][step % 3]
        lit = (chances[0] > 0.8).to(self.flags.device)
        self.flags.copy_(bad_flags * GRADIENT_NOT_FINITE + lit * GRADIENT_NOT_ZERO)
        self.phase.copy_(normal(self.images, *HALF, seed=step, dtype=self.dtype))
        self.next_phase.copy_(normal(self.images, *HALF, seed=step + 1, dtype=self.dtype))
        self.next_phase[bad_phases, -1, 2, 1] = math.nan
        self.sums.copy_(normal(self.images, self.parts, 2, seed=step, dtype=torch.float64))
        self.sums[bad_phases, -1, 1] = math.nan
        return scores

    def end(self, scores):
        self.record.end_step(scores, self.flags, self.phase, self.next_phase, self.sums, self.boxes)


def end_by_the_host(record, scores, flags, next_phase):
    """What `StepUpdate` does, with the gradients that the flags tell of."""
    finite = flags.bitwise_and(GRADIENT_NOT_FINITE).eq(0)
    record.check_scores(are_finite(scores) & finite)
    went_on = record.running.clone()
    record.add_scores(scores)
    record.watch(flags.bitwise_and(GRADIENT_NOT_ZERO)[:, None])
    record.check_update(are_finite(next_phase))
    record.close_step()
    return went_on & ~record.running


def sums_of(phase):
    flat = phase.double().flatten(1)
    return torch.stack((flat.sum(1), flat.square().sum(1)), 1)


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_record_of_steps(dtype):
    steps = Steps(dtype=dtype)
    expected = StepRecord(IMAGES, steps.flags.device)
    expected.make_room()
    put_back = 0
    for step in range(RECENT + 6):  # scores of later steps replace the first
        scores = steps.draw(step)
        spoiled = end_by_the_host(expected, scores, steps.flags, steps.next_phase)
        phase, next_phase, sums = (
            tensor.clone() for tensor in (steps.phase, steps.next_phase, steps.sums)
        )
        steps.end(scores)
        for one, other in zip(steps.record.tensors(), expected.tensors(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        assert not steps.flags.any()
        assert_same(steps.phase, phase)
        assert_same(steps.next_phase[spoiled], phase[spoiled])
        torch.testing.assert_close(
            steps.sums[spoiled].sum(1), sums_of(phase[spoiled]), rtol=1e-12, atol=1e-12
        )
        kept = (steps.next_phase[~spoiled], steps.sums[~spoiled])
        for one, other in zip(kept, (next_phase[~spoiled], sums[~spoiled]), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        boxes = boxes_of(SIDES[min(step + 1, 3)], step + 1, [7 * i for i in range(IMAGES)])
        assert_same(steps.boxes.boxes, boxes)
        put_back += int(spoiled.sum())
    # All kinds of endings have been there.
    assert put_back > 2
    assert 0 < expected.running.sum() < IMAGES - put_back
    assert 0 < expected.has_gradient.sum() < IMAGES


def test_a_gradient_after_the_first_steps_comes_too_late():
    steps = Steps(2)
    for step in range(PATIENCE_WITHOUT_GRADIENT + 1):
        steps.flags[0] = GRADIENT_NOT_ZERO if step == PATIENCE_WITHOUT_GRADIENT else 0
        steps.flags[1] = GRADIENT_NOT_ZERO if step == PATIENCE_WITHOUT_GRADIENT - 1 else 0
        steps.end(torch.zeros(2))
    assert steps.record.has_gradient.tolist() == [False, True]


def test_without_boxes():
    steps = Steps(3, draws=False)
    steps.end(steps.draw(0))
    assert steps.record.step.item() == 1


@pytest.mark.parametrize("images", [0, 1])
def test_few_images(images):
    steps = Steps(images)
    steps.end(torch.ones(images))
    assert steps.record.step.item() == 1
    assert steps.record.running.all()


def test_memory_with_gaps():
    steps, plain = Steps(), Steps()
    steps.sums = torch.stack((steps.sums, steps.sums), -1)[..., 0]
    for step in range(9):
        for one in (steps, plain):
            one.end(one.draw(step))
    for one, other in zip(steps.record.tensors(), plain.record.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert_same(steps.boxes.boxes, plain.boxes.boxes)


def test_a_counter_of_the_device_is_not_checked_but_harmless(backend):
    if not backend.startswith("emulated"):
        pytest.skip("on the CPU the host refuses it")
    steps = Steps(2)
    with recording() as recorded:
        steps.end(torch.ones(2))
    before = steps.record.recent_scores.clone()
    steps.record.step.fill_(-1)
    recorded.replay()
    before[:, -1] = 1  # the last column is that of step 2^64 - 1
    torch.testing.assert_close(steps.record.recent_scores, before, equal_nan=True)
    assert steps.record.step.item() == 0


def test_opcheck():
    steps = Steps(3)
    scores = steps.draw(1)
    record, boxes = steps.record, steps.boxes
    arguments = (
        scores, steps.flags, steps.phase, steps.next_phase.nan_to_num(), steps.sums.nan_to_num(),
        record.running, record.ended_in, record.by_update, record.has_gradient,
        record.recent_scores.nan_to_num(), record.step, 10, boxes.boxes, "normal", 0.05, 0.15, 0.05,
        1.0, 3, boxes.box_size, boxes.identities,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.fvfast.end_step_.default, arguments)


def test_autograd_notices_the_change_in_place():
    steps = Steps(2)
    weights = steps.next_phase.clone().requires_grad_()
    loss = (weights**2).sum()
    steps.next_phase = weights
    end_step_(
        torch.ones(2), steps.flags, steps.phase, weights, steps.sums,
        running=steps.record.running, ended_in=steps.record.ended_in,
        by_update=steps.record.by_update, has_gradient=steps.record.has_gradient,
        recent_scores=steps.record.recent_scores, step=steps.record.step, patience=10,
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
