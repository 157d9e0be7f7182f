"""A step from one phase to another: for images that go on, the one that is taken in place."""

import math

import pytest
import torch
from ops.tables import RANGE, assert_same, normal

from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer
from fvfast.ops.gradient_flags import GRADIENT_NOT_FINITE, GRADIENT_NOT_ZERO
from fvfast.ops.nadam import nadam_rates, nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.phase_cuda import phase_update_cuda
from fvfast.ops.phase_step import new_sums, phase_step_

STEP = {"step": 3, "lr": 0.5}
GOES_ON = [True, False, False, False, False, True]


class State:
    """Six images, of which the first and the last go on, with all that a step takes."""

    def __init__(self, height=24, width=20, dtype=torch.float32):
        half = (6, 3, height, width // 2 + 1)
        self.width = width
        self.magnitude = normal(*half[1:], seed=1, dtype=dtype).abs() + 0.1
        self.phase = normal(*half, dtype=dtype)
        self.averages = normal(*half, seed=2, dtype=dtype), 0.5 + normal(*half, dtype=dtype) ** 2
        self.gradient = normal(6, 3, height, width, seed=4, dtype=dtype)
        self.next_phase = normal(*half, seed=5, dtype=dtype)
        self.sums = new_sums(self.phase).fill_(math.nan)
        self.gate = {
            "running": torch.tensor([True, False, True, True, True, True]),
            "scores": torch.tensor([1.0, 1.0, math.nan, -math.inf, 1.0, -2.0]),
            "flags": torch.tensor([0, 0, 0, 0, GRADIENT_NOT_FINITE, GRADIENT_NOT_ZERO]).int(),
        }

    def rendered(self):
        return render_phase(self.magnitude, self.phase, RANGE, self.width)

    def arguments(self):
        rendered = self.rendered()
        return (
            self.gradient, rendered.image, self.magnitude, self.phase, rendered.spectrum,
            rendered.statistics, *RANGE, self.next_phase, *self.averages, self.sums,
            *(self.gate[name] for name in ("scores", "flags", "running")), *nadam_rates(**STEP),
        )  # fmt: skip

    def take(self, **nadam):
        phase_step_(
            self.gradient, self.rendered(), self.magnitude, self.phase, self.next_phase,
            *self.averages, RANGE, sums=self.sums, **self.gate, **(nadam or STEP),
        )  # fmt: skip
        return self.next_phase, *self.averages

    def take_in_place(self):
        sums = phase_ascent_(
            self.gradient, self.rendered(), self.magnitude, self.phase, *self.averages, RANGE,
            **STEP,
        )  # fmt: skip
        return sums, self.phase, *self.averages


# The second size has a large prime factor: torch transforms.
@pytest.mark.compiled
@pytest.mark.parametrize("size", [(24, 20), (97, 30), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_images_that_go_on_are_updated(size, dtype):
    ours, theirs = State(*size, dtype), State(*size, dtype)
    before = State(*size, dtype)
    found = ours.take()
    sums, *expected = theirs.take_in_place()
    goes_on = torch.tensor(GOES_ON)
    assert_same(ours.phase, before.phase)
    # The second has ended before; the others end here, with what was there.
    kept = torch.cat((before.phase[:2], before.next_phase[2:]))
    for one, updated, old in zip(found, expected, (kept, *before.averages), strict=True):
        assert_same(one[goes_on], updated[goes_on])
        assert_same(one[~goes_on], old[~goes_on])
        assert not torch.equal(updated, old)
    assert_same(ours.sums[goes_on], sums[goes_on])
    flat = kept.double().flatten(1)
    totals = torch.stack((flat.sum(1), flat.square().sum(1)), 1)[~goes_on]
    torch.testing.assert_close(ours.sums[~goes_on].sum(1), totals, rtol=1e-12, atol=1e-10)


def test_the_sums_of_a_phase_are_the_same_whoever_writes_it(backend):
    """An image that has ended is rendered as after its last update, to the bit on CUDA."""
    ours = State()
    ours.take()
    updated, ours.phase = ours.sums.clone(), ours.next_phase.clone()
    ours.gate["running"] = torch.zeros(6, dtype=torch.bool)
    ours.take()
    assert_same(ours.next_phase, ours.phase)
    if backend == "cpu":  # where torch adds up what has not been updated
        torch.testing.assert_close(ours.sums, updated, rtol=1e-14, atol=1e-12)
    else:
        assert_same(ours.sums, updated)


@pytest.mark.compiled
def test_rates_of_a_table():
    ours, theirs = State(), State()
    ours.take(step=torch.tensor(2), rates=nadam_table(5, lr=0.5))
    theirs.take()
    for one, other in zip(
        (ours.next_phase, *ours.averages, ours.sums),
        (theirs.next_phase, *theirs.averages, theirs.sums),
        strict=True,
    ):
        assert_same(one, other)


def with_gaps(tensor):
    return torch.stack((tensor, tensor), -1)[..., 0]


@pytest.mark.parametrize("name", ["phase", "next_phase", "sums", "magnitude", "averages", "gate"])
def test_memory_with_gaps(name):
    ours, theirs = State(), State()
    given = getattr(ours, name)
    if isinstance(given, tuple):
        setattr(ours, name, tuple(map(with_gaps, given)))
    elif isinstance(given, dict):
        ours.gate = {key: with_gaps(tensor) for key, tensor in given.items()}
    else:
        setattr(ours, name, with_gaps(given))
    for one, other in zip(ours.take(), theirs.take(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.sums.sum(1), theirs.sums.sum(1), rtol=1e-4, atol=1e-3)


def test_autograd_notices_the_change_in_place():
    state = State()
    weights = state.next_phase.requires_grad_()
    loss = (weights**2).sum()
    state.take()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_no_gradient_is_unfinished_where_the_transform_does_not_fit():
    """The division of its columns among blocks was one by zero."""
    kernels = kernels_for(torch.get_default_device())
    if kernels is None or kernels.target is None:
        pytest.skip("only CUDA leaves a gradient unfinished")
    sizes = [1, 1, 11, 1]  # columns of 11 numbers, as torch transforms them
    phase, *averages = (torch.ones(1, 1, 11, 1) for _ in range(3))
    bytes_of_scratch = kernels.module.phase_image_gradient_scratch(dtype="float32", sizes=sizes)
    scratch = torch.zeros(bytes_of_scratch, dtype=torch.uint8)
    statistics = torch.ones(1, 4, dtype=torch.float64)
    unfinished = (buffer(scratch), buffer(statistics), sizes, 1e-5)
    with pytest.raises(
        ValueError, match=r"phase_update\(\): unfinished: expected a height and .* 11"
    ):
        phase_update_cuda(kernels, phase, None, *averages, nadam_rates(step=1), unfinished)


def test_opcheck():
    state = State()
    state.sums.zero_()
    torch.library.opcheck(torch.ops.fvfast.phase_step_.default, state.arguments())


def test_phases_may_not_share_memory():
    state = State()
    state.next_phase = state.phase
    with pytest.raises(
        ValueError, match=r"phase_step_\(\): next_phase: .*apart from that of phase"
    ):
        state.take()
