"""Networks that do more than compute: a run gives its picture, and leaves no trace."""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from misbehaving import (
    INPUT,
    SHORT,
    CountsInItsData,
    Network,
    Spikes,
    draw,
    everything,
    global_state,
)
from selection import thorough
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune

import fvfast.engine
from fvfast import Objective, maco, maco_batch, optimize

pytestmark = pytest.mark.usefixtures("nothing_kept")


class CountsThroughNumpy(CountsInItsData):
    def around(self, x):
        self.n.numpy()[...] += 1
        return x


class SwapsABuffersData(CountsInItsData):
    def around(self, x):
        self.n.data = self.n.data + 1
        return x


class ResizesABuffer(CountsInItsData):
    def around(self, x):
        self.n.resize_(4).fill_(2)
        return x


class ReplacesABuffer(CountsInItsData):
    def around(self, x):
        self.n = self.n + 1
        return x


class DeletesABuffer(CountsInItsData):
    def around(self, x):
        if "n" in self._buffers:
            del self.n
        return x


class LimitsItsWeights(Network):
    """As EEGNet does with the norms of its weights, in each pass."""

    def forward(self, x):
        self.fc.weight.data = torch.renorm(self.fc.weight.data, p=2, dim=0, maxnorm=0.1)
        return super().forward(x)


class ClampsItsWeights(Network):
    def forward(self, x):
        self.conv.weight.data.clamp_(-0.05, 0.05)
        return super().forward(x)


class FlipsItsWeights(Network):
    """The values stay the same, in another order."""

    def forward(self, x):
        self.fc.bias.data.copy_(self.fc.bias.data.flip(0))
        return super().forward(x)


class HasGenerators(Network):
    def __init__(self):
        super().__init__()
        self.torch_generator = torch.Generator().manual_seed(3)
        self.random = random.Random(3)
        self.numpy = np.random.default_rng(3)

    def around(self, x):
        x = x + 0.1 * torch.randn(4, 1, 1, generator=self.torch_generator)
        return x * self.random.random() * float(self.numpy.random())


class Hooks(Network):
    """Registers a hook in each pass, and forgets it."""

    def around(self, x):
        self.fc.register_forward_hook(lambda *_: None)
        return x


class Modes(Network):
    def around(self, x):
        self.norm.train()
        self.norm.eps = 0.1
        self.fc.bias.requires_grad_(True)
        return x


class Grows(Network):
    """Adds modules and parameters as it runs."""

    def around(self, x):
        self.extra = nn.Linear(2, 2)
        self.fc.scale = nn.Parameter(torch.ones(1))
        return x


def weight_normed():
    model = Network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.conv)
    return model


def spectral_normed():
    model = Network()
    nn.utils.spectral_norm(model.fc)
    return model.eval()


def pruned():
    model = Network()
    prune.random_unstructured(model.conv, "weight", 0.3)
    return model


def parametrized():
    model = Network()
    nn.utils.parametrizations.weight_norm(model.conv)
    nn.utils.parametrizations.spectral_norm(model.fc)
    return model.eval()


def learning():
    """Left in training mode, with gradients that somebody still needs."""
    model = Network()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    model.conv.weight.requires_grad_(False)
    model.train()
    model.norm.eval()
    return model


ZOO = {
    made.__name__: made
    for made in (
        Network, CountsInItsData, CountsThroughNumpy, SwapsABuffersData, ResizesABuffer,
        ReplacesABuffer, DeletesABuffer, LimitsItsWeights, ClampsItsWeights, FlipsItsWeights,
        Spikes, HasGenerators, Hooks, Modes, Grows, weight_normed, spectral_normed, pruned,
        parametrized, learning,
    )
}  # fmt: skip


class MineError(Exception):
    pass


def raising(error):
    def callback(report):
        if report.step == 1:
            raise error

    return callback


ENDINGS = {
    "success": {},
    "an error": {"callback": raising(MineError())},
    "an interrupt": {"callback": raising(KeyboardInterrupt())},
}


@pytest.mark.parametrize(
    ("ending", "precision"),
    [
        thorough("success", None),
        ("success", "float16"),
        ("an error", "bfloat16"),
        ("an interrupt", None),
    ],
)
@pytest.mark.parametrize("name", ZOO)
def test_the_network_comes_back_bit_for_bit(name, ending, precision):
    model = ZOO[name]()
    before, around = everything(model), global_state()
    for _ in range(2):  # the second time in the form that was kept
        try:
            draw(model, precision=precision, **ENDINGS[ending])
        except MineError:
            assert ending == "an error"
        assert everything(model) == before
        assert global_state() == around


@pytest.mark.parametrize("call", [optimize, thorough(maco_batch)])
@pytest.mark.parametrize("name", ZOO)
def test_other_calls_give_it_back_too(name, call):
    model = ZOO[name]()
    before, around = everything(model), global_state()
    draw(model, call)
    assert everything(model) == before
    assert global_state() == around


@pytest.mark.parametrize("name", [name for name in ZOO if name != "ResizesABuffer"])
def test_equal_runs_give_equal_pictures(name):
    """However often the network ran before, and whether its form was kept."""
    model = ZOO[name]()
    first = draw(model)
    assert torch.equal(draw(model), first)
    fvfast.engine.clear()
    assert torch.equal(draw(model), first)


def test_autograd_of_the_user_goes_on():
    """Buffers that nobody wrote to count as unchanged."""
    model = Network()
    images = torch.randn(2, *INPUT, requires_grad=True)
    loss = model(images).sum()
    draw(model)
    loss.backward()
    assert images.grad.any()


# Hooks on all modules


def test_a_hook_on_all_modules_sees_what_the_network_gives():
    model = Network()
    seen, expected = {}, {}
    views = torch.randn(4, *INPUT)

    def note(module, _inputs, output):
        seen[module] = output.detach().clone()

    objective = Objective.neuron(model, "fc", 2, input_shape=INPUT)
    handle = register_module_forward_hook(note)
    try:
        maco(objective, **SHORT)
        assert {model.conv, model.norm} <= set(seen)
        assert all(output.isfinite().all() for output in seen.values())
        normed = seen[model.norm]
        expected = F.batch_norm(
            seen[model.conv], model.norm.running_mean, model.norm.running_var, model.norm.weight,
            model.norm.bias, eps=model.norm.eps,
        )  # fmt: skip
        torch.testing.assert_close(normed, expected)
        assert (normed < 0).any()  # before the ReLU
        model(views)
    finally:
        handle.remove()
