"""Padding by a separate call, joined to the convolution after it."""

import pytest
import torch
import torch.nn.functional as F
from engine.joined import Network, check, conv, sequence
from torch import nn

from fvfast import Objective, optimize
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form
from fvfast.engine.rewrite.plan import make_plan
from fvfast.engine.rewrite.recording import record_convolutions


def padded(zeros, *, before=(), kernel=3, **settings):
    """A convolution, what follows it, a padding, and a second convolution."""
    return sequence(
        conv(3, 6), nn.BatchNorm2d(6), *before, nn.ZeroPad2d(zeros), conv(6, 4, kernel, **settings)
    )


ZEROS = [
    (1, 1, 1, 1),
    (2, 2, 1, 1),
    (0, 1, 0, 1),  # TensorFlow's "same" for a stride of 2
    (1, 2, 1, 2),
    (2, 0, 1, 3),
    (0, 0, 0, 0),
]


@pytest.mark.parametrize("zeros", ZEROS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stride": 2},
        {"stride": (2, 3), "padding": (1, 0), "kernel": (3, 5)},
        {"kernel": 1},
        {"groups": 2, "stride": 2},
    ],
)
def test_every_padding(zeros, settings):
    model = padded(zeros, before=(nn.ReLU6(),), **settings)
    first, second = check(model, (2, 1, ["relu6"]))
    assert first.feeds_padding
    assert first.feeds_convolution
    assert second.zeros == zeros
    assert second.padded is first


def test_depthwise_as_in_tensorflows_networks():
    model = sequence(
        conv(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.ZeroPad2d((1, 2, 1, 2)), conv(8, 8, 5, groups=8, stride=2, bias=False),
        nn.BatchNorm2d(8), nn.ReLU6(),
        nn.ZeroPad2d(1), conv(8, 8, 3, groups=8), nn.ReLU(), conv(8, 4, 1),
    )  # fmt: skip
    found = check(model, (4, 2, ["relu6", "relu6", "relu"]), shape=(2, 3, 14, 15))
    assert [entry.zeros for entry in found] == [
        (0, 0, 0, 0), (1, 2, 1, 2), (1, 1, 1, 1), (0, 0, 0, 0)
    ]  # fmt: skip


def functional(function, **parts):
    torch.manual_seed(0)
    made = {"conv": conv(), "second": conv(6, 6), **parts}
    return Network(function, **made)


JOINED = {
    "no activation": (lambda: padded((1, 1, 1, 1)), (2, 1, [])),
    "a functional call": (
        lambda: functional(lambda m, x: m.second(F.pad(m.conv(x), (1, 1, 1, 1), value=0.0))),
        (2, 0, []),
    ),
    "keywords": (
        lambda: functional(
            lambda m, x: m.second(F.pad(input=F.relu(m.conv(x)), pad=[1, 0, 1, 0], mode="constant"))
        ),
        (2, 0, ["relu"]),
    ),
    "behind a sum": (
        lambda: functional(
            lambda m, x: m.third(
                F.pad(F.relu(x.repeat(1, 2, 1, 1) + m.second(m.conv(x))), [1] * 4)
            ),
            second=conv(6, 6, 3, padding=2),
            third=conv(6, 4),
        ),
        (3, 0, ["relu"]),
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_what_is_joined(name):
    model, expected = JOINED[name]
    model = model()
    found = check(model, expected)
    assert sum(entry.padded is not None for entry in found) == 1


LEFT_ALONE = {
    "other values": (
        lambda: functional(lambda m, x: m.second(F.pad(m.conv(x), (1, 1, 1, 1), value=1.0))),
        (2, 0, []),
    ),
    "reflections": (lambda: padded_by(nn.ReflectionPad2d(1)), (2, 0, ["relu"])),
    "less instead of more": (lambda: padded_by(nn.ZeroPad2d((1, 1, -1, 1))), (2, 0, ["relu"])),
    "the channels": (
        lambda: functional(
            lambda m, x: m.second(F.pad(m.conv(x), (1, 1, 1, 1, 0, 2))), second=conv(8, 6)
        ),
        (2, 0, []),
    ),
    "the images": (lambda: sequence(nn.ZeroPad2d(1), conv()), (1, 0, [])),
    "what is no convolution's": (
        lambda: sequence(conv(), nn.SiLU(), nn.ZeroPad2d(1), conv(6)),
        (2, 0, []),
    ),
    "taps apart": (lambda: padded((0, 1, 0, 1), dilation=2), (2, 1, [])),
    "a pooling behind it": (
        lambda: sequence(conv(), nn.ZeroPad2d(1), nn.MaxPool2d(2), conv(6)),
        (2, 0, []),
    ),
    "read twice": (
        lambda: functional(
            lambda m, x: (lambda y: m.second(y) + y[:, :, 1:-1, 1:-1])(F.pad(m.conv(x), [1] * 4))
        ),
        (2, 0, []),
    ),
    "a second reader of what is padded": (
        lambda: functional(lambda m, x: (lambda y: m.second(F.pad(y, [1] * 4)) + y)(m.conv(x))),
        (2, 0, []),
    ),
    "twice": (
        lambda: functional(lambda m, x: m.second(F.pad(F.pad(m.conv(x), [1] * 4), [0, 1, 0, 1]))),
        (2, 0, []),
    ),
    "a convolution that is called twice": (
        lambda: functional(lambda m, x: m.second(F.pad(m.second(m.conv(x)), [1] * 4))),
        (1, 0, []),
    ),
}


def padded_by(padding):
    return sequence(conv(), nn.ReLU(), padding, conv(6))


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_left_alone(name):
    model, expected = LEFT_ALONE[name]
    model = model()
    found = check(model, expected)
    assert all(entry.padded is None and not entry.feeds_padding for entry in found)


def test_a_padding_that_is_asked_for():
    model = padded((1, 1, 1, 1), before=(nn.ReLU(),))
    outputs = []
    handle = model[3].register_forward_hook(lambda _m, _i, output: outputs.append(output))
    found = record_convolutions(model.eval(), lambda: [model(torch.randn(1, 3, 9, 9))])
    handle.remove()
    assert all(entry.padded is None for entry in found)
    objective = Objective.layer(model, "3", input_shape=(3, 12, 12))
    tapped, *_ = objective.compile()
    views = torch.randn(2, 3, 12, 12)
    with borrowed(model):
        plan = make_plan(tapped, objective.scorer([0]), views, "name", None)
    assert plan.form == Form(joined=True, channels_last=True)
    assert all(entry.padded is None for entry in plan.convolutions)


def test_the_warm_up_leaves_relus_and_what_is_behind_them_alone():
    """With the ReLU, the padding behind it is a call of its own again."""
    model = padded((0, 1, 0, 1), before=(nn.ReLU(),)).eval()
    objective = Objective.channel(model, "4", 1, input_shape=(3, 12, 12))
    settings = {"nb_steps": 3, "warmup_steps": 3, "custom_shape": (20, 20), "progress": False}
    images, _ = optimize(objective, **settings)
    assert images[-1].isfinite().all()
