"""Types that a network runs in: its own, one that is asked for, the fastest."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from engine.plans import (
    INPUT,
    JOINED,
    SHORT,
    Network,
    gradients,
    note_dtypes,
    objective_of,
    plan_of,
    relative,
)
from engine.test_state import assert_same, fingerprint

from fvfast import Objective, maco
from fvfast.engine.precision import PRECISIONS, check_precision, half_types
from fvfast.engine.rewrite.plan import Planner

# Names


@pytest.mark.parametrize("precision", [*PRECISIONS, None])
def test_precisions(precision):
    assert check_precision(precision) == precision


@pytest.mark.parametrize("precision", ["half", "fp32", "", "Float32", torch.float32, 16])
def test_other_precisions_are_refused_before_any_work(network, precision):
    objective = objective_of(network)
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16") as raised:
        maco(objective, **SHORT, precision=precision)
    assert repr(precision) in str(raised.value)


def test_types_that_may_be_faster(monkeypatch):
    assert half_types(torch.device("cpu")) == [torch.bfloat16]
    for supported in (False, True):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda supported=supported, **_: supported
        )
        expected = [torch.bfloat16, torch.float16] if supported else [torch.float16]
        assert half_types(torch.device("cuda")) == expected


# Precisions


def test_the_networks_own_type_is_the_default(network):
    assert plan_of(objective_of(network)).form == JOINED
    assert plan_of(objective_of(network.double())).form == JOINED
    seen = note_dtypes(network[7])
    maco(objective_of(network), **SHORT)
    assert set(seen) == {(torch.float64, torch.float64)}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_an_explicit_precision_is_run_in(network, precision):
    dtype = getattr(torch, precision)
    before = fingerprint(network)
    objective = objective_of(network, "7")
    plan = plan_of(objective, precision)
    assert plan.form == dataclasses.replace(JOINED, dtype=dtype)
    exact, expected = gradients(objective, plan_of(objective))
    seen = note_dtypes(network[7])
    scores, gradient = gradients(objective, plan)
    assert seen == [(dtype, dtype)]
    assert gradient.dtype == torch.float32
    # A handful of roundings.
    assert relative(gradient, expected) < 8 * torch.finfo(dtype).eps
    assert relative(scores, exact) < 8 * torch.finfo(dtype).eps
    image, _ = maco(objective, **SHORT, precision=precision)
    assert image.dtype == torch.float32
    network[7]._forward_hooks.clear()
    assert_same(before, fingerprint(network))


@pytest.mark.parametrize("own", [torch.float64, torch.bfloat16, torch.float16])
def test_networks_of_other_types_in_float32(network, own):
    network.to(own)
    before = fingerprint(network)
    objective = objective_of(network, "7")
    plan = plan_of(objective, "float32")
    assert plan.form == dataclasses.replace(JOINED, dtype=torch.float32)
    seen = note_dtypes(network[7])
    gradients(objective, plan)
    single = (torch.float32, torch.float32)
    assert seen == [single]
    maco(objective, **SHORT, precision="float32")
    # It is tried in its own type first.
    assert seen[-2:] == [single, single]
    network[7]._forward_hooks.clear()
    assert_same(before, fingerprint(network))


@pytest.mark.parametrize("own", [torch.bfloat16, torch.float16])
def test_half_precision_networks_on_the_processor(network, own):
    exact = gradients(objective_of(network, "7"), plan_of(objective_of(network, "7")))
    network.to(own)
    objective = objective_of(network, "7")
    for precision in (None, "auto"):
        plan = plan_of(objective, precision)
        ours = gradients(objective, plan)
        for mine, its in zip(ours, exact, strict=True):
            assert mine.dtype == torch.float32
            assert relative(mine, its) < torch.finfo(own).eps ** 0.5
        maco(objective, **SHORT, precision=precision)


def with_constant(m, y):
    return y.flatten(1) @ m.projection()


def refusing():
    """Multiplies by a matrix that it makes itself, in float32."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(8 * 18 * 18, 5, generator=generator)
    return Network(with_constant, projection=lambda: matrix.clone())


def test_autocast_where_a_network_cannot_be_cast():
    model = refusing()
    objective = objective_of(model, "")
    plan = plan_of(objective, "bfloat16")
    assert plan.form == dataclasses.replace(JOINED, channels_last=True, dtype=torch.bfloat16,
                                            autocast=True)  # fmt: skip
    assert "bfloat16 by autocast" in str(plan.form)
    seen = note_dtypes(model.conv)
    _, gradient = gradients(objective, plan)
    assert seen == [(torch.bfloat16, torch.float32)]
    assert relative(gradient, gradients(objective, plan_of(objective))[1]) < 0.05
    maco(objective, **SHORT, precision="bfloat16")


def overflowing(_m, y):
    return y / 0 * 0 if y.dtype == torch.bfloat16 else y


def test_a_precision_that_gives_nan_is_refused():
    objective = objective_of(Network(overflowing), "")
    with pytest.raises(ValueError, match="does not run in precision='bfloat16'") as raised:
        maco(objective, **SHORT, precision="bfloat16")
    assert "bfloat16: not finite" in str(raised.value)
    assert "bfloat16 by autocast: not finite" in str(raised.value)
    plan = plan_of(objective, "auto")
    assert plan.form == JOINED
    assert sum("bfloat16" in note and "nan" in note for note in plan.notes) == 2
    maco(objective, **SHORT, precision="auto")


# "auto"


def timed(half, own=1.0):
    """Make planners by whose clock forms in 16 bits, and in the own type, take so many seconds.

    They add the forms that they time to ``asked``.
    """

    class Timed(Planner):
        asked: ClassVar = []

        def seconds_of(self, forms):
            forms = [running.form for running in forms]
            self.asked.extend(forms)
            return [half if form.dtype else own for form in forms]

    return Timed


def test_auto_takes_the_fastest(network):
    objective = objective_of(network)
    brain = dataclasses.replace(JOINED, dtype=torch.bfloat16)
    planner = timed(1.0, 3.0)
    plan = plan_of(objective, "auto", planner=planner)
    assert planner.asked == [JOINED, brain]
    assert plan.form == brain
    assert plan.notes == ("torch.float32: takes 3.00 times as long",)
    plan = plan_of(objective, "auto", planner=timed(3.0, 1.0))
    assert plan.form == JOINED
    assert plan.notes == (f"{brain}: takes 3.00 times as long",)


def test_auto_needs_a_gain_worth_its_rounding(network):
    objective = objective_of(network)
    assert plan_of(objective, "auto", planner=timed(0.97)).form == JOINED
    assert plan_of(objective, "auto", planner=timed(0.93)).form.dtype == torch.bfloat16


def imprecise(_m, y):
    """Changes its values, or its gradient, where it runs in bfloat16."""
    return y * 1.3 if y.dtype == torch.bfloat16 else y


def other_gradient(_m, y):
    value = y.detach() + 0 * y
    return value + (y.flip(2, 3) - y.flip(2, 3).detach() if y.dtype == torch.bfloat16 else
                    y - y.detach())  # fmt: skip


@pytest.mark.parametrize(
    ("function", "note"),
    [(imprecise, "changes the outputs by 30"), (other_gradient, "likeness of the gradients")],
)
def test_auto_takes_only_what_agrees(function, note):
    planner = timed(1.0, 3.0)
    plan = plan_of(objective_of(Network(function), ""), "auto", planner=planner)
    assert planner.asked == [JOINED]
    assert plan.form == JOINED
    assert sum(note in line for line in plan.notes) == 2


def test_auto_tries_autocast_where_a_cast_fails():
    plan = plan_of(objective_of(refusing(), ""), "auto", planner=timed(1.0, 3.0))
    assert plan.form.autocast
    assert plan.notes[0].startswith("joined convolutions, channels last, bfloat16: RuntimeError")


def test_auto_times_forms_itself(network):
    before = fingerprint(network)
    plan = plan_of(objective_of(network), "auto")
    assert plan.form in (JOINED, dataclasses.replace(JOINED, dtype=torch.bfloat16))
    assert len(plan.notes) == 1
    assert "times as long" in plan.notes[0]
    maco(objective_of(network), **SHORT, precision="auto")
    assert_same(before, fingerprint(network))


# Small gradients


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e-12, 1e6])
@pytest.mark.parametrize("make", [
    lambda m: Objective.neuron(m, "7", 3, input_shape=INPUT),
    lambda m: Objective.channel(m, "3", 3, input_shape=INPUT),
    lambda m: Objective.layer(m, "0", input_shape=INPUT),
])  # fmt: skip
def test_float16_holds_tiny_scores(network, factor, make):
    objective = make(network) * factor
    plan = plan_of(objective, "float16")
    # A power of two.
    assert torch.tensor(plan.gradient_scale).log2() % 1 == 0
    exact, expected = gradients(objective, plan_of(objective))
    scores, gradient = gradients(objective, plan)
    eps = torch.finfo(torch.float16).eps
    assert relative(scores, exact) < 8 * eps
    # A share of about eps of the ReLUs is as near to 0 as to switch.
    assert relative(gradient, expected) < eps**0.5


@pytest.mark.parametrize("factor", [1.0, 1e-6])
def test_tiny_scores_of_a_float16_network(network, factor):
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT) * factor
    _, expected = gradients(objective, plan_of(objective))
    _, gradient = gradients(objective, plan_of(objective, "float16"))
    network.half()
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT) * factor
    _, own = gradients(objective, plan_of(objective))
    for mine in (gradient, own):
        assert relative(mine, expected) < torch.finfo(torch.float16).eps ** 0.5


def test_other_types_need_no_scale(network):
    for precision in (None, "bfloat16", "float32"):
        assert plan_of(objective_of(network) * 1e-6, precision).gradient_scale == 1
