"""Whoever looks into a network with joined convolutions sees its own values."""

import pytest
import torch
import torch.nn.functional as F
from engine.joined import NORM, check, conv, once, sequence, with_statistics
from torch import nn

from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form, in_form
from fvfast.engine.rewrite.recording import record_convolutions


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # The network ends there: nothing behind it runs.
        ("0", (1, 0, [])),
        ("1", (1, 1, [])),
        ("2", (1, 1, ["relu"])),
        (["0", "5"], (2, 1, ["relu"])),
        (["1", "5"], (2, 2, ["relu"])),
        (["2", "5"], (2, 2, ["relu", "relu"])),
        (["0", "1", "2", "3", "4", "5"], (2, 0, [])),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_layers_that_are_asked_for_have_their_own_values(layer, expected, inplace):
    def network(model, images):
        parts = [
            Objective.layer(model, name, input_shape=(3, 12, 13))
            for name in ([layer] if isinstance(layer, str) else layer)
        ]
        tapped, *_ = sum(parts).compile()
        return tapped(images)

    model = sequence(
        conv(), nn.BatchNorm2d(6), nn.ReLU(inplace),
        conv(6, 5), nn.BatchNorm2d(5), nn.ReLU(inplace),
    )  # fmt: skip
    check(model, expected, network=network)


@pytest.mark.parametrize("kind", ["forward", "pre", "replacing"])
@pytest.mark.parametrize("hooked", [0, 1, 2, 3])
def test_hooks_of_the_user_see_the_networks_own_values(hooked, kind):
    model = with_statistics(sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(), conv(6)))
    seen = []

    def keep(_module, inputs, output=None):
        seen.append((inputs[0].clone(), None if output is None else output.clone()))
        return output * 2 if kind == "replacing" else None

    register = "register_forward_pre_hook" if kind == "pre" else "register_forward_hook"
    images = torch.randn(2, 3, 12, 13)
    with borrowed(model):
        getattr(model[hooked], register)(keep)
        expected = model(images)
        convolutions = record_convolutions(model, lambda: [model(images)])
        with in_form(model, Form(joined=True), convolutions) as running:
            seen, own = [], seen[:1]
            with running.context(images.device):
                output = model(images)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(seen, own)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_what_a_hook_keeps_stays_as_it_was(layers):
    """Without a copy, so that a ReLU in place shows."""
    model = with_statistics(sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(), conv(6)))
    kept = {}
    model[layers].register_forward_hook(lambda _m, _i, output: kept.update(output=output))
    images = torch.randn(2, 3, 12, 13)
    with borrowed(model):
        model(images)
        own = kept["output"]
        convolutions = record_convolutions(model, lambda: [model(images)])
        joined = in_form(model, Form(joined=True), convolutions)
        with joined as running, running.context(images.device):
            model(images)
    torch.testing.assert_close(kept["output"], own)


@pytest.mark.parametrize("hooked", [0, 1, 2, 3])
def test_gradient_hooks_of_the_user_see_the_networks_own_gradients(hooked):
    model = with_statistics(sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(), conv(6)))
    seen = []
    model[hooked].register_full_backward_hook(lambda *arguments: seen.append(arguments[1:]))
    images = torch.randn(2, 3, 12, 13, requires_grad=True)
    with borrowed(model):
        model(images).square().sum().backward()
        own, expected = seen.pop(), images.grad
        convolutions = record_convolutions(model, lambda: [model(images)])
        images.grad = None
        with in_form(model, Form(joined=True), convolutions) as running:
            with running.context(images.device):
                output = model(images)
            output.square().sum().backward()
    torch.testing.assert_close(seen, [own])
    torch.testing.assert_close(images.grad, expected)


def test_a_tensor_hook_of_the_network():
    """No hook can be put on a tensor without a gradient: such a network is not recorded."""

    def doubled(m, x):
        y = m.conv(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient * 2)
        return F.relu(y)

    check(once(doubled, **NORM)(), (1, 0, ["relu"]))
