"""Which operations wait for the GPU, and so break a capture."""

import pytest
import torch
from engine.passes_to_capture import objectives, views_of

from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.graphs.rehearsal import WaitWatch
from fvfast.engine.rewrite.forms import Form
from fvfast.engine.rewrite.plan import Plan
from fvfast.engine.rewrite.recording import record_convolutions
from fvfast.engine.starting import running_engine


class ReadsInItsGradient(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x * 2

    @staticmethod
    def backward(_ctx, gradient):
        return gradient * float(gradient.max())


def gradient_of(function, x):
    x.requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)


MASK = torch.tensor([True, False, True])


WAITS = {
    "a number": lambda x: float(x[0]),
    "a decision": lambda x: 1 if x.sum() > 0 else 2,
    "a comparison": lambda x: torch.equal(x, x + 1),
    "where": lambda x: torch.where(x > 0),
    "unique": lambda x: torch.unique(x),
    "a mask": lambda x: x[MASK],
    "a mask to write to": lambda x: x.clone().index_put_((MASK,), x.new_ones(2)),
    "repeats": lambda x: x.repeat_interleave(torch.tensor([1, 2, 1])),
    "to another device": lambda x: x.to("meta"),
    "copied to another device": lambda x: torch.empty(3, device="meta").copy_(x),
    # What torch.tensor([1.0], device=...) ends with.
    "numbers for another device": lambda _x: torch.ops.aten.lift_fresh(
        torch.ones(1, device="meta")
    ),
    "a gradient": lambda x: gradient_of(ReadsInItsGradient.apply, x),
}


NO_WAITS = {
    "an index": lambda x: x[torch.tensor([0, 2])],
    "slices": lambda x: x[None, 1:].clone(),
    "a filled mask": lambda x: x.masked_fill(MASK, 1.0),
    "a chosen value": lambda x: torch.where(MASK, x, 0),
    "a type": lambda x: x.double(),
    "a copy": lambda x: torch.empty(3).copy_(x),
    "an index to write to": lambda x: x.clone().index_put_((torch.tensor([1]),), x.new_ones(1)),
    "a gradient": lambda x: gradient_of(torch.square, x),
}


@pytest.mark.parametrize("name", WAITS)
def test_operations_that_wait(name):
    with WaitWatch() as watch:
        WAITS[name](torch.tensor([1.0, -2.0, 3.0]))
    assert watch.obstacle.startswith("it waits for the GPU in aten.")


@pytest.mark.parametrize("name", NO_WAITS)
def test_operations_that_do_not_wait(name):
    x = torch.tensor([1.0, -2.0, 3.0])
    with WaitWatch() as watch:
        NO_WAITS[name](x)
    assert watch.obstacle == ""


@pytest.mark.parametrize("name", ["neurons", "a layer"])
@pytest.mark.parametrize("form", [Form(), Form(joined=True, channels_last=True)], ids=str)
def test_passes_do_not_wait(network, name, form):
    """After the first, which copies what it needs to the device."""
    objective, _ = objectives(network)[name]
    count = len(objective.combination_names)
    with borrowed(network):
        tapped, _, (name, *_), _ = objective.compile()
        plan = Plan(form, record_convolutions(network, lambda: tapped(views_of(0))))
        with running_engine(
            tapped, plan, lambda first, last: objective.scorer(range(first, last)), name
        ) as engine:
            expected = engine.gradients(views_of(0), count)
            with WaitWatch() as watch:
                actual = engine.gradients(views_of(0), count)
    assert watch.obstacle == ""
    assert all(map(torch.equal, actual, expected))
