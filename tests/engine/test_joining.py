"""Convolutions with what follows them, joined: which there are, and that they compute the same."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from engine.joined import NORM, check, conv, once, sequence, summary, with_statistics
from engine.test_state import assert_same, fingerprint
from timm.layers import BatchNormAct2d
from torch import nn

from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form, in_form
from fvfast.engine.rewrite.recording import record_convolutions


def functional_norm(m, x):
    y = F.conv2d(x, m.conv.weight, m.conv.bias, 2, padding=1)
    y = F.batch_norm(y, m.bn.running_mean, m.bn.running_var, m.bn.weight, bias=m.bn.bias)
    return F.relu(y)


def keywords(m, x):
    y = F.conv2d(input=x, weight=m.conv.weight, stride=(2, 1), bias=m.conv.bias)
    y = F.batch_norm(
        input=y, running_mean=m.bn.running_mean, running_var=m.bn.running_var, eps=1e-2
    )
    return F.relu(input=y, inplace=True)


def norm_in_place(m, x):
    y = m.conv(x)
    y += 1
    return m.bn(y).relu_()


def standardized(m, x):
    weight = m.conv.weight
    weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
    return F.relu(F.conv2d(x, weight, m.conv.bias))


TWO = {"conv": lambda: conv(padding=1), "second": lambda: conv(6, 6, padding=1)}


CASES = {
    "conv, norm, relu": (
        lambda: sequence(conv(), nn.BatchNorm2d(6), nn.ReLU()),
        (1, 1, ["relu"]),
    ),
    "relu6 in place": (
        lambda: sequence(conv(), nn.BatchNorm2d(6), nn.ReLU6(inplace=True), conv(6)),
        (2, 1, ["relu6"]),
    ),
    "relu in place without a norm": (
        lambda: sequence(conv(), nn.ReLU(inplace=True), conv(6), nn.ReLU(inplace=True)),
        (2, 0, ["relu", "relu"]),
    ),
    "a hardtanh that is no relu6": (
        lambda: sequence(conv(), nn.Hardtanh(-1, 2), conv(6), nn.Hardtanh(0, 6)),
        (2, 0, ["relu6"]),
    ),
    "no bias": (
        lambda: sequence(conv(bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        (1, 1, ["relu"]),
    ),
    "a norm without weights": (
        lambda: sequence(conv(), nn.BatchNorm2d(6, affine=False), nn.ReLU()),
        (1, 1, ["relu"]),
    ),
    "another activation": (
        lambda: sequence(conv(), nn.BatchNorm2d(6), nn.SiLU(inplace=True)),
        (1, 1, []),
    ),
    "norm first": (
        lambda: sequence(nn.BatchNorm2d(3), nn.ReLU(), conv()),
        (1, 0, []),
    ),
    "two norms": (
        lambda: sequence(conv(), nn.BatchNorm2d(6), nn.BatchNorm2d(6), nn.ReLU()),
        (1, 1, []),
    ),
    "relu before the norm": (
        lambda: sequence(conv(), nn.ReLU(), nn.BatchNorm2d(6), nn.ReLU()),
        (1, 0, ["relu"]),
    ),
    "relu twice": (lambda: sequence(conv(), nn.ReLU(), nn.ReLU()), (1, 0, ["relu"])),
    "identity and dropout between": (
        lambda: sequence(conv(), nn.Identity(), nn.BatchNorm2d(6), nn.Dropout(), nn.ReLU()),
        # Dropout is a call that reads the output.
        (1, 1, []),
    ),
    "depthwise and pointwise": (
        lambda: sequence(
            conv(3, 8), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 8, groups=8, stride=2, padding=1),
            nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 4, 1), nn.BatchNorm2d(4),
        ),
        (3, 3, ["relu6", "relu6"]),
    ),
    "timm's joined norm": (
        lambda: sequence(conv(), BatchNormAct2d(6)), (1, 1, ["relu"])
    ),
    "functional relu": (once(lambda m, x: F.relu(m.conv(x)), **NORM), (1, 0, ["relu"])),
    "torch's relu": (once(lambda m, x: torch.relu(m.conv(x)), **NORM), (1, 0, ["relu"])),
    "relu_": (once(lambda m, x: torch.relu_(m.conv(x)), **NORM), (1, 0, ["relu"])),
    "a tensor's relu": (once(lambda m, x: m.conv(x).relu(), **NORM), (1, 0, ["relu"])),
    "functional relu6 in place": (
        once(lambda m, x: F.relu6(m.conv(x), inplace=True), **NORM),
        (1, 0, ["relu6"]),
    ),
    "functional norm": (once(functional_norm, **NORM), (1, 1, ["relu"])),
    "keywords": (once(keywords, **NORM), (1, 1, ["relu"])),
    "a shared relu": (
        once(lambda m, x: m.act(m.second(m.act(m.conv(x)))), act=nn.ReLU, **TWO),
        (2, 0, ["relu", "relu"]),
    ),
    "a residual": (
        once(lambda m, x: (lambda y: m.second(F.relu(y)) + y)(m.conv(x)), **TWO),
        (2, 0, []),
    ),
    "a residual of the relu": (
        once(lambda m, x: (lambda y: m.second(y) + y)(F.relu(m.conv(x))), **TWO),
        (2, 0, ["relu"]),
    ),
    "a residual of the norm": (
        once(
            lambda m, x: (lambda y: F.relu(y) + y)(m.bn(m.conv(x))),
            **NORM,
        ),
        (1, 1, []),
    ),
    "a transposed view is read too": (
        once(lambda m, x: (lambda y: (y.mT.sum(2), F.relu(y)))(m.conv(x)), **NORM),
        (1, 0, []),
    ),
    "values read by attribute": (
        once(lambda m, x: (lambda y: (y.real * 2, F.relu(y)))(m.conv(x)), **NORM),
        (1, 0, []),
    ),
    "shapes are no values": (
        once(lambda m, x: (lambda y: F.relu(y) * y.shape[1] * y.size(0) * y.ndim)(m.conv(x)),
             **NORM),
        (1, 0, ["relu"]),
    ),
    "a convolution called twice": (
        once(
            lambda m, x: F.relu(m.second(m.bn(F.relu(m.second(m.conv(x)))))),
            bn=lambda: nn.BatchNorm2d(6), **TWO,
        ),
        (1, 0, []),
    ),
    "a weight shared by two convolutions": (
        once(
            lambda m, x: F.relu(F.conv2d(m.conv(x), m.second.weight)) + F.conv2d(
                F.relu(m.conv(x)), m.second.weight
            ),
            **TWO,
        ),
        (0, 0, []),
    ),
    "a norm without statistics": (
        lambda: sequence(conv(), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU()),
        (1, 0, []),
    ),
    "an addition in place": (once(norm_in_place, **NORM), (1, 0, [])),
    "an addition in place of a residual": (
        once(lambda m, x: (lambda y: F.relu(y.__iadd__(x.mean(1, keepdim=True))))(m.conv(x)),
             conv=lambda: conv(padding=1)),
        (1, 0, []),
    ),
    "weights from the forward pass": (once(standardized, **NORM), (0, 0, [])),
    "padding in words": (lambda: sequence(conv(padding="same"), nn.ReLU()), (0, 0, [])),
    "padding in other words": (lambda: sequence(conv(padding="valid"), nn.ReLU()), (0, 0, [])),
    "circular padding": (
        lambda: sequence(conv(padding=2, padding_mode="circular"), nn.ReLU()),
        (1, 0, ["relu"]),
    ),
    "reflected padding": (
        lambda: sequence(conv(padding=(1, 2), padding_mode="reflect"), nn.BatchNorm2d(6)),
        (1, 1, []),
    ),
    "weight norm": (
        lambda: sequence(nn.utils.parametrizations.weight_norm(conv()), nn.ReLU(), conv(6)),
        (1, 0, []),
    ),
    "spectral norm": (
        lambda: sequence(nn.utils.parametrizations.spectral_norm(conv()), nn.BatchNorm2d(6)),
        (0, 0, []),
    ),
    "a transposed convolution": (
        lambda: sequence(nn.ConvTranspose2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        (0, 0, []),
    ),
    "images without a batch": (
        once(lambda m, x: torch.stack([F.relu(m.conv(image)) for image in x]), **NORM),
        (0, 0, []),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_joined_networks_are_the_same(case):
    make, expected = CASES[case]
    check(make(), expected)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ReLU()), (2, 3, 15)),
        ((nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6), nn.ReLU()), (2, 3, 5, 6, 7)),
    ],
)
def test_other_dimensions_are_left_alone(layers, shape):
    check(sequence(*layers), (0, 0, []), shape=shape)


def test_what_alone_feeds_a_convolution():
    model = sequence(
        conv(), nn.BatchNorm2d(6), nn.ReLU(), conv(6), nn.ReLU(), nn.MaxPool2d(2), conv(6)
    )
    convolutions = check(model, (3, 1, ["relu", "relu"]), shape=(2, 3, 14, 14))
    assert [entry.feeds_convolution for entry in convolutions] == [True, False, False]


def test_scripted_parts_stay_out():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script itself is deprecated
        scripted = torch.jit.script(sequence(conv(6, 6), nn.ReLU()).eval())
    model = with_statistics(sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(), scripted, conv(6)))
    images = torch.randn(2, 3, 12, 13)
    with borrowed(model):
        expected = model(images)
        convolutions = record_convolutions(model, lambda: [model(images)])
        assert summary(convolutions) == (2, 1, ["relu"])
        joined = in_form(model, Form(joined=True), convolutions)
        with joined as running, running.context(images.device):
            output = model(images)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_network_comes_back_after_an_exception(error, dtype):
    def fail(_module, _inputs):
        if failing:
            raise error

    failing = False
    model = with_statistics(
        sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(inplace=True), conv(6, 6), nn.Identity())
    )
    model[4].register_forward_pre_hook(fail)
    before = fingerprint(model)
    images = torch.randn(2, 3, 12, 13)
    expected = model(images)
    with borrowed(model):
        convolutions = record_convolutions(model, lambda: [model(images)])
        failing = True
        with pytest.raises(error):
            record_convolutions(model, lambda: [model(images)])
        with (
            pytest.raises(error),
            in_form(model, Form(joined=True, channels_last=True, dtype=dtype), convolutions) as run,
            run.context(images.device),
        ):
            model(images.to(dtype or torch.float32))
        failing = False
        assert torch.equal(model(images), expected)
    assert_same(before, fingerprint(model))


def test_shared_tensors_stay_shared_in_another_type():
    model = sequence(conv(6, 6, padding=1), conv(6, 6, padding=1)).eval()
    model[1].weight = model[0].weight
    model.register_buffer("table", torch.arange(3))
    weight = model[0].weight
    with borrowed(model), in_form(model, Form(dtype=torch.bfloat16), []):
        assert model[0].weight is model[1].weight
        assert model[0].weight.dtype == torch.bfloat16
        assert model.table.dtype == torch.int64
    assert model[0].weight is weight
    assert model[1].weight is weight


def test_the_form_says_what_it_is():
    assert str(Form()) == "as it is"
    assert (
        str(Form(joined=True, channels_last=True, dtype=torch.bfloat16, autocast=True))
        == "joined convolutions, channels last, bfloat16 by autocast"
    )


def test_a_moved_network_joins_nothing_that_it_no_longer_has():
    """Records of weights that the network has replaced since are of no effect."""
    model = with_statistics(sequence(conv(), nn.BatchNorm2d(6), nn.ReLU()))
    images = torch.randn(2, 3, 12, 13)
    with borrowed(model):
        convolutions = record_convolutions(model, lambda: [model(images)])
        model[0].weight = nn.Parameter(model[0].weight * 3, requires_grad=False)
        expected = model(images)
        joined = in_form(model, Form(joined=True), convolutions)
        with joined as running, running.context(images.device):
            assert torch.equal(model(images), expected)
