"""What runs leave behind: nothing, also after failures and interrupts."""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import gc
import os
import signal
import weakref

import numpy as np
import pytest
import torch
from lucent_runs import draw, hooks_of, small_image
from torch import nn

from fvfast.engine.rewrite.kept_forms import SHARED
from fvfast.lucent.optvis import objectives, render


class Counting(nn.Module):
    """Writes to a buffer in each pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return x


@pytest.fixture
def writer(network):
    return nn.Sequential(*network, Counting()).eval()


def state_of(model):
    return {
        "values": {name: one.clone() for name, one in model.state_dict().items()},
        "identities": [id(one) for one in (*model.parameters(), *model.buffers())],
        "modes": [module.training for module in model.modules()],
        "gradients": [(one.requires_grad, one.grad) for one in model.parameters()],
        "hooks": hooks_of(model),
    }


def assert_same_state(model, before):
    now = state_of(model)
    values, earlier = now.pop("values"), before.pop("values")
    assert all(torch.equal(one, earlier[name]) for name, one in values.items())
    assert now == before


def hooked_twice(T):
    return T("3").mean() + T("labels").mean() + T("input").mean()


@pytest.mark.parametrize("objective", ["3:1", hooked_twice, objectives.blur_input_each_step()])
def test_the_network_comes_back_as_it_was(writer, objective):
    own = writer[0].register_forward_hook(lambda *_: None)
    writer[2].weight = None
    writer[3].weight.requires_grad_(False)
    before = state_of(writer)
    for _ in range(3):
        draw(writer, objective, thresholds=(3,))
    assert_same_state(writer, before)
    assert hooks_of(writer) == [writer[0]._forward_hooks[own.id]]


def test_a_network_in_training_mode(writer):
    writer.train()
    before = state_of(writer)
    with pytest.warns(UserWarning, match="is in training mode: it runs in evaluation mode here"):
        draw(writer, "3:1")
    assert_same_state(writer, before)


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("place", ["objective", "transform", "image"])
def test_after_an_exception(writer, place, step):
    calls = []

    def failing(value):
        calls.append(1)
        # Counted from the first look on, which the objective and the image have.
        if len(calls) == step + (place != "transform"):
            raise ValueError("on purpose")
        return value

    values = torch.randn(1, 3, 12, 12).requires_grad_()
    settings = {
        "objective": (lambda T: failing(T("3").mean()), small_image, {}),
        "transform": ("3:1", small_image, {"transforms": [failing]}),
        "image": ("3:1", lambda: ([values], lambda: failing(values)), {}),
    }
    objective, param_f, others = settings[place]
    before = state_of(writer)
    with pytest.raises(ValueError, match="on purpose") as caught:
        draw(writer, objective, param_f, thresholds=(9,), **others)
    # Here the exception still refers to all that was alive when it was raised.
    assert caught.tb is not None
    assert_same_state(writer, before)


@pytest.mark.usefixtures("nothing_kept")
def test_forms_are_kept_for_the_next_call(network):
    """Those of fvfast's own objectives: another one may read another part of the network."""
    draw(network, lambda T: T("3").mean())
    assert len(SHARED) == 0
    for channel in range(3):
        draw(network, f"3:{channel}")
        assert len(SHARED) == 1
    with pytest.raises(ValueError, match="on purpose"):
        draw(network, "3:1", transforms=[failing_at(3)], thresholds=(9,))
    assert len(SHARED) == 0  # it may be half changed


def failing_at(call):
    calls = []

    def fail(images):
        calls.append(1)
        if len(calls) == call:
            raise ValueError("on purpose")
        return images

    return fail


def test_no_gradients_of_weights(network):
    """They are neither computed nor kept."""
    draw(network, lambda T: -T("3").mean())
    assert all(one.grad is None for one in network.parameters())
    grads = []

    def watched(T):
        grads.extend(one.requires_grad for one in network.parameters())
        return -T("3").mean()

    draw(network, watched)
    assert not any(grads)


def interrupting(at):
    """An objective that is interrupted, as by Ctrl-C, in its call number ``at``."""
    calls = []

    def objective(T):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return -T("3")[:, 1].mean()

    return objective


def test_an_interrupt_keeps_the_images_so_far(writer):
    before = state_of(writer)
    torch.manual_seed(0)
    expected = draw(writer, interrupting(None), thresholds=(1, 3))
    torch.manual_seed(0)
    # The first call is the first look: the fifth is that of step 4.
    with pytest.warns(RuntimeWarning, match="interrupted in step 4 of 50"):
        images = draw(writer, interrupting(5), thresholds=(1, 50))
    np.testing.assert_array_equal(images, expected)
    assert_same_state(writer, before)


def test_two_interrupts_end_the_program(network):
    with pytest.warns(RuntimeWarning, match="interrupted in step 1"):
        draw(network, interrupting(2), thresholds=(50,))
    with pytest.raises(KeyboardInterrupt):
        draw(network, interrupting(2), thresholds=(50,))
    assert hooks_of(network) == []


class TestHooks:
    def test_hook_model(self, network):
        images = torch.rand(1, 3, 20, 20)
        features = render.hook_model(network, lambda: images)
        with pytest.raises(RuntimeError, match="layer '3' has no output"):
            features("3")
        output = network(images)
        assert torch.equal(features("labels"), output)
        assert torch.equal(features("7"), output)
        assert features("input") is images
        with pytest.raises(ValueError, match="has no layer 'conv'"):
            features("conv")
        features.close()
        assert hooks_of(network) == []
        assert torch.equal(features("7"), output)

    def test_hooks_end_with_their_objects(self, network):
        features = render.hook_model(network, small_image)
        one = render.ModuleHook(network[3])
        network(torch.rand(1, 3, 20, 20))
        assert one.module is network[3]
        assert torch.equal(one.features, features("3"))
        alive = [weakref.ref(features), weakref.ref(one)]
        del features, one
        gc.collect()
        assert [reference() for reference in alive] == [None, None]
        assert hooks_of(network) == []

    def test_module_hook(self, network):
        hook = render.ModuleHook(network[0])
        network(torch.rand(2, 3, 20, 20))
        hook.close()
        network(torch.rand(1, 3, 20, 20))
        assert hook.features.shape == (2, 8, 18, 18)
        assert hooks_of(network) == []

    def test_with_statement(self, network):
        with render.hook_model(network, small_image):
            assert len(hooks_of(network)) == 1 + len(network)
        assert hooks_of(network) == []


def test_runs_do_not_keep_their_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    draw(model, "2:1")
    draw(model, lambda T: T("2").mean())
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
