import copy
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from engine.test_state import assert_same, fingerprint
from timm.layers import BatchNormAct2d
from torch import nn

from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form, in_form
from fvfast.engine.rewrite.plan import make_plan
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
    """Compare a network with its joined form, and with itself afterwards.

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


def once(function, **parts):
    return lambda: (torch.manual_seed(0), Network(function, **{k: v() for k, v in parts.items()}))[
        1
    ]


NORM = {"conv": conv, "bn": lambda: nn.BatchNorm2d(6)}
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


# Sums


def shortcut(m, x):
    x = F.relu(m.stem(x))
    return F.relu(m.bn(m.conv(x)) + x)


def shortcut_in_place(m, x):
    x = F.relu(m.stem(x))
    y = m.bn(m.conv(x))
    y += x
    return m.relu(y)


def shortcut_first(m, x):
    x = m.stem(x)
    return F.relu6(torch.add(x, m.bn(m.conv(x)))) * 2


def no_activation(m, x):
    x = m.stem(x)
    return (x + m.conv(x)).sigmoid()


def two_branches(m, x):
    return F.relu(m.stem(x) + m.bn(m.conv(m.stem(x).relu())))


def both_are_convolutions(m, x):
    return F.relu(m.bn(m.conv(m.inner(x).relu())) + m.outer(x))


def into_the_shortcut(m, x):
    x = F.relu(m.stem(x))
    y = x * 1
    y += m.conv(x)
    return y.relu()


def sum_is_read_twice(m, x):
    x = m.stem(x)
    y = m.conv(x) + x
    return [F.relu(y), y.sin()]


def branch_is_read_twice(m, x):
    x = m.stem(x)
    y = m.conv(x)
    return [F.relu(y + x), y.sin()]


def other_shape(m, x):
    return F.relu(m.stem(x) + m.stem.bias[:, None, None])


def scaled_sum(m, x):
    x = m.stem(x)
    return F.relu(torch.add(x, m.conv(x), alpha=0.5))


STEM = {"stem": conv, "conv": lambda: conv(6, 6, padding=1), "bn": lambda: nn.BatchNorm2d(6)}


@pytest.mark.parametrize(
    ("function", "parts", "sums", "expected"),
    [
        (shortcut, {}, [1], (2, 1, ["relu", "relu"])),
        (shortcut_in_place, {"relu": lambda: nn.ReLU(True)}, [1], (2, 1, ["relu", "relu"])),
        (shortcut_first, {}, [1], (2, 1, ["relu6"])),
        (no_activation, {}, [1], (2, 0, [])),
        (two_branches, {}, [0], (1, 1, ["relu"])),
        (
            both_are_convolutions,
            {"inner": conv, "outer": conv},
            [2],
            (3, 1, ["relu", "relu"]),
        ),
        (into_the_shortcut, {}, [], (2, 0, ["relu"])),
        (sum_is_read_twice, {}, [1], (2, 0, [])),
        (branch_is_read_twice, {}, [], (2, 0, [])),
        (other_shape, {}, [], (1, 0, [])),
        (scaled_sum, {}, [], (2, 0, [])),
    ],
)
def test_sums(function, parts, sums, expected):
    made = once(function, **{**STEM, **parts})()
    found = check(made, expected)
    assert [index for index, entry in enumerate(found) if entry.adds] == sums


def test_a_sum_in_place_whose_result_is_dropped_is_found_out():
    """Nothing tells it from an assignment: the outputs do."""

    def dropped(m, x):
        x = F.relu(m.stem(x))
        y = m.conv(x)
        y.add_(x)
        return y.sigmoid()

    model = once(dropped, **STEM)().eval()
    objective = Objective.layer(model, "", input_shape=(3, 12, 12))
    tapped, scorer, names, _ = objective.compile()
    with borrowed(model):
        plan = make_plan(tapped, scorer, torch.randn(2, 3, 12, 12), names[0], None)
    assert plan.form == Form(joined=True, channels_last=True)
    assert any("with sums" in note for note in plan.notes)
