"""Compares networks with what they are when their convolutions are joined."""

import copy
import itertools

import torch
from engine.test_state import assert_same, fingerprint
from torch import nn

from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form, in_form
from fvfast.engine.rewrite.recording import record_convolutions

FORMATS = [False, True]


def with_statistics(model):
    """Statistics and weights as of a trained network, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            size = module.num_features
            if module.running_mean is not None:
                module.running_mean.copy_(0.3 * torch.randn(size, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(size, generator=generator))
            if module.weight is not None:
                module.weight.data.copy_(0.5 + torch.rand(size, generator=generator))
                module.bias.data.copy_(0.3 * torch.randn(size, generator=generator))
    return model.eval()


def gradients_of(outputs):
    """The same arbitrary gradients for outputs of any type."""
    generator = torch.Generator().manual_seed(2)
    return [
        torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
        for output in outputs
    ]


def run(network, images):
    images = images.detach().requires_grad_()
    outputs = network(images)
    (gradient,) = torch.autograd.grad(outputs, images, gradients_of(outputs))
    return [*(output.detach() for output in outputs), gradient]


def listed(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def assert_as_exact(ours, theirs, exact):
    """At most twice the network's own error, besides a rounding of each value.

    The roundings of folded weights are others than those of the network: where it has few, its
    error may be small by luck.
    """
    for mine, its, right in zip(ours, theirs, exact, strict=True):
        own = float((its.double() - right).norm())
        error = float((mine.double() - right).norm())
        assert error <= 2 * own + 2 * torch.finfo(mine.dtype).eps * float(right.norm())


def summary(convolutions):
    norms = sum(entry.norm is not None for entry in convolutions)
    activations = [entry.activation for entry in convolutions if entry.activation != "none"]
    return len(convolutions), norms, activations


def check(model, expected, *, network=None, shape=(2, 3, 12, 13)):
    """Compare a network with what it is when joined, and with itself afterwards.

    Parameters
    ----------
    model
        The network.
    expected
        Numbers of convolutions and normalizations, and the activations.
    network
        What is called with it and images; default, the network itself.
    """
    model = with_statistics(model)
    call = network or (lambda model, images: model(images))
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    exact_model = copy.deepcopy(model).double().eval()
    before = fingerprint(model)
    with borrowed(model):
        theirs = run(lambda x: listed(call(model, x)), images)
        exact = run(lambda x: listed(call(exact_model, x)), images.double())
        convolutions = record_convolutions(model, lambda: listed(call(model, images)))
        assert summary(convolutions) == expected
        for channels_last, sums in itertools.product(FORMATS, (False, True)):
            if channels_last and len(shape) != 4:
                continue
            form = Form(joined=True, sums=sums, channels_last=channels_last)
            with in_form(model, form, convolutions) as running:
                for join_activations in (True, False):

                    def joined(
                        views, *, running=running, form=form, join_activations=join_activations
                    ):
                        with running.context(views.device, join_activations=join_activations):
                            return listed(call(model, form.feed(views)))

                    assert_as_exact(run(joined, images), theirs, exact)
        again = run(lambda x: listed(call(model, x)), images)
        assert all(torch.equal(one, other) for one, other in zip(theirs, again, strict=True))
    assert_same(before, fingerprint(model))
    return convolutions


def sequence(*modules):
    torch.manual_seed(0)
    return nn.Sequential(*modules)


def conv(inputs=3, outputs=6, kernel=3, **settings):
    return nn.Conv2d(inputs, outputs, kernel, **settings)


class Network(nn.Module):
    """Parts, and a function of them and the images."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def once(function, **parts):
    return lambda: (torch.manual_seed(0), Network(function, **{k: v() for k, v in parts.items()}))[
        1
    ]


NORM = {"conv": conv, "bn": lambda: nn.BatchNorm2d(6)}
