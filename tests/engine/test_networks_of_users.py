"""Networks as users write them, and the mistakes in them."""

import pytest
import torch
from engine.plans import (
    INPUT,
    JOINED,
    SHORT,
    Network,
    gradients,
    objective_of,
    plan_of,
    relative,
    views_of,
)
from engine.test_state import assert_same, fingerprint
from torch import nn

from fvfast import Objective, maco, maco_batch
from fvfast.engine.rewrite.forms import Form


class Failing(nn.Module):
    def __init__(self, error, calls):
        super().__init__()
        self.error = error
        self.calls = calls
        self.eval()

    def forward(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return x


class OwnError(Exception):
    pass


@pytest.mark.parametrize("precision", [None, "auto", "bfloat16"])
def test_the_networks_own_exception_reaches_the_user(network, precision):
    part = Failing(OwnError("mine"), 100)
    network.append(part)
    objective = objective_of(network)
    before = fingerprint(network)
    part.calls = 0
    with pytest.raises(OwnError, match="mine"):
        maco(objective, **SHORT, precision=precision)
    assert_same(before, fingerprint(network))


def test_an_exception_at_a_later_step_reaches_the_user(network):
    part = Failing(OwnError("mine"), 100)
    network.append(part)
    objective = objective_of(network)
    before = fingerprint(network)

    def callback(report):
        if report.step == 1:
            part.calls = 0

    for precision in (None, "bfloat16"):
        part.calls = 100
        with pytest.raises(OwnError, match="mine"):
            maco(objective, **{**SHORT, "nb_steps": 4}, callback=callback, precision=precision)
        assert_same(before, fingerprint(network))


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_interrupts_in_a_batch(network, precision):
    part = Failing(KeyboardInterrupt(), 100)
    network.append(part)
    objective = Objective.neuron(network, "7", [0, 1, 2], input_shape=INPUT) + objective_of(network)
    before = fingerprint(network)

    def callback(report):
        if report.names[0].startswith("Neuron#7_1") and report.step == 0:
            part.calls = 0

    with pytest.warns(RuntimeWarning, match="interrupted"):
        result = maco_batch(objective, **SHORT, batch_size=1, callback=callback,
                            precision=precision)  # fmt: skip
    assert len(result.names) == 2
    assert_same(before, fingerprint(network))


def test_an_interrupt_while_the_network_is_being_tried(network):
    part = Failing(KeyboardInterrupt(), 100)
    network.append(part)
    objective = objective_of(network)
    before = fingerprint(network)
    # The network's own form, its record, and the joined one.
    for calls in range(3):
        part.calls = calls
        with pytest.raises(KeyboardInterrupt):
            plan_of(objective)
        assert_same(before, fingerprint(network))


def only_in_training(m, y):
    if m.training:
        raise AssertionError
    return m.act(y)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv(x)
        return {"first": (self.act(y), [y.mean((2, 3))]), "nothing": None}


class SeveralCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.act(self.bn(self.conv(self.act(self.bn(self.conv(x)))))) * 2


USERS = {
    "training branch": (lambda: Network(only_in_training, act=nn.ReLU(inplace=True)), "", 1),
    "nested": (Nested, ("", "first"), 1),
    "nested convolution": (Nested, "conv", 1),
    "several calls": (SeveralCalls, "conv", 0),
    "several calls of the norm": (SeveralCalls, "bn", 0),
    "several calls, the end": (SeveralCalls, "", 0),
}


@pytest.mark.parametrize("case", USERS)
@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_networks_of_users(case, precision):
    make, layer, joined = USERS[case]
    torch.manual_seed(0)
    model = make().eval()
    before = fingerprint(model)
    objective = objective_of(model, layer)
    plan = plan_of(objective, precision)
    assert len(plan.convolutions) == joined
    tapped, scorer, *_ = objective.compile()
    views = views_of().requires_grad_()
    scores = scorer(tapped(views))
    (expected,) = torch.autograd.grad(scores.sum(), views)
    scores = scores.detach()
    mine, gradient = gradients(objective, plan)
    tolerance = 1e-5 if precision is None else 8 * torch.finfo(torch.bfloat16).eps
    assert relative(mine, scores) < tolerance
    assert relative(gradient, expected) < tolerance
    maco(objective, **SHORT, precision=precision)
    assert_same(before, fingerprint(model))


def test_the_last_call_of_a_layer_counts():
    torch.manual_seed(0)
    model = SeveralCalls().eval()
    with pytest.raises(ValueError, match="never called"):
        objective_of(model, "unused")
    objective = objective_of(model, "act")
    scores, _ = gradients(objective, plan_of(objective))
    with torch.no_grad():
        expected = (model(views_of()) / 2).square().mean()
    torch.testing.assert_close(scores[0], expected)


def test_hooks_of_the_user_stay_in_use(network):
    """They may change what the network computes."""
    network[0].register_forward_hook(lambda _m, _i, output: output * 2)
    network[3].register_forward_pre_hook(lambda _m, inputs: (inputs[0] + 1,))
    objective = objective_of(network, "7")
    views = views_of().requires_grad_()
    (expected,) = torch.autograd.grad(network(views).square().mean(), views)
    before = fingerprint(network)
    plan = plan_of(objective)
    assert [entry.norm for entry in plan.convolutions] == [None, None]
    assert relative(gradients(objective, plan)[1], expected) < 1e-5
    assert_same(before, fingerprint(network))


def test_a_function_of_the_images_needs_no_network():
    objective = Objective.from_callable(None, lambda x: x.square().mean(), input_shape=INPUT)
    for precision in (None, "auto", "bfloat16"):
        assert plan_of(objective, precision).form == Form()


def test_a_score_that_does_not_depend_on_the_views(network):
    objective = Objective.from_callable(network, lambda x: x.detach().mean(), input_shape=INPUT)
    with pytest.raises(ValueError, match="does not depend on the image"):
        maco(objective, **SHORT)


def test_a_function_that_runs_the_network(network):
    objective = Objective.from_callable(
        network, lambda x: network(x)[:, 3].mean(), input_shape=INPUT
    )
    views = views_of().requires_grad_()
    network(views)[:, 3].mean().backward()
    plan = plan_of(objective)
    assert plan.form == JOINED
    torch.testing.assert_close(gradients(objective, plan)[1], views.grad)
    # The function gives the network float32 images: its first, joined convolution casts them.
    half = plan_of(objective, "bfloat16")
    assert half.form.dtype == torch.bfloat16
    brain = gradients(objective, half)[1]
    assert torch.cosine_similarity(brain.flatten(), views.grad.flatten(), dim=0) >= 0.99


def test_parameters_on_several_devices_are_left_where_they_are():
    """The meta device stands in for a second one; only the part on the processor runs."""
    model = Network()
    model.elsewhere = nn.Linear(2, 2, device="meta").eval()
    objective = objective_of(model, "conv")
    assert plan_of(objective).form == JOINED
    assert plan_of(objective, "bfloat16").form.dtype == torch.bfloat16
    assert model.elsewhere.weight.device.type == "meta"
    assert model.elsewhere.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="several devices"):
        maco(objective, **SHORT, device="meta")
