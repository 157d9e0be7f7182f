import dataclasses
import warnings

import pytest
import torch
import torch.nn.functional as F
from engine.test_state import assert_same, fingerprint
from torch import nn

import fvfast.engine.rewrite.plan as plan_module
from fvfast import Objective, maco, maco_batch
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.engine import running_engine
from fvfast.engine.precision import PRECISIONS, check_precision, half_types
from fvfast.engine.rewrite.forms import Form
from fvfast.engine.rewrite.plan import PROBE_VIEWS, Planner, make_plan
from fvfast.ops.winograd import has_winograd_kernel

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 2, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}
JOINED = Form(joined=True, channels_last=True)


class Network(nn.Module):
    """A convolution, and a function of the network and the convolution's output."""

    def __init__(self, function=lambda _m, y: y, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)
        self.eval()

    def forward(self, x):
        return self.function(self, self.conv(x))


def objective_of(model, layer=-1, **settings):
    return Objective.layer(model, layer, input_shape=INPUT, **settings)


def views_of(count=3, seed=0):
    return torch.randn(count, *INPUT, generator=torch.Generator().manual_seed(seed))


def plan_of(objective, precision=None, views=None):
    tapped, _, names, _ = objective.compile()
    with borrowed(objective.model):
        views = views_of() if views is None else views
        return make_plan(tapped, objective.scorer([0]), views, names[0], precision)


def gradients(objective, plan, views=None):
    """Scores and gradient by a plan."""
    tapped, *_ = objective.compile()

    def scorer(first, last):
        return objective.scorer(range(first, last))

    with borrowed(objective.model), running_engine(tapped, plan, scorer, "name") as engine:
        views = views_of() if views is None else views
        return engine.gradients(views, len(objective.combination_names))


def relative(mine, its):
    return float((mine.double() - its.double()).norm() / its.double().norm())


def note_dtypes(module):
    """Types of a module's outputs and parameters when it is called."""
    seen = []
    module.register_forward_hook(lambda m, _i, output: seen.append((output.dtype, m.weight.dtype)))
    return seen


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


def flattened(m, y):
    return m.linear(y.view(len(y), -1))


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_scores_of_any_size_are_alike(network, factor):
    assert plan_of(objective_of(network, "7") * factor).form == JOINED


def test_networks_that_run_only_in_their_own_memory_format():
    objective = objective_of(Network(flattened, linear=nn.Linear(8 * 18 * 18, 5)), "")
    plan = plan_of(objective)
    assert plan.form == Form(joined=True)
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("joined convolutions, channels last: RuntimeError: view size")
    assert ("left out", plan.notes[0]) in plan.describe()
    assert plan_of(objective, "bfloat16").form == Form(joined=True, dtype=torch.bfloat16)
    maco(objective, **SHORT)


def counts_modes(_m, y):
    """Twice the ReLU: a joined one makes another result of the same operations."""
    return y.relu() if torch._C._len_torch_function_stack() == 0 else y.relu() * 2


def test_a_network_that_joining_would_change_is_run_as_it_is():
    model = Network(counts_modes)
    objective = objective_of(model, "")
    plan = plan_of(objective)
    assert plan.form == Form()
    assert all("changes the outputs by 100.0%" in note for note in plan.notes)
    views = views_of().requires_grad_()
    model(views).square().mean().backward()
    assert relative(gradients(objective, plan)[1], views.grad) < 1e-6


def stochastic(_m, y):
    return F.relu(y) * torch.rand(y.shape[0], 8, 1, 1)


def test_a_stochastic_network_draws_the_same_in_each_trial():
    objective = objective_of(Network(stochastic), "")
    assert plan_of(objective).form == JOINED
    image, _ = maco(objective, **SHORT)
    assert image.isfinite().all()


GENERATOR = torch.Generator()


def unsteady(_m, y):
    return F.relu(y) * torch.rand(y.shape[0], 8, 1, 1, generator=GENERATOR)


def test_a_network_that_is_another_each_time_is_run_as_it_is():
    plan = plan_of(objective_of(Network(unsteady), ""))
    assert plan.form == Form()
    assert len(plan.notes) == 2


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


def test_a_network_that_is_nan_in_its_own_type():
    objective = objective_of(Network(lambda _m, y: y / 0 * 0), "")
    for precision in (None, "auto"):
        assert plan_of(objective, precision).form == Form()
    with pytest.warns(RuntimeWarning, match="not finite"):
        maco(objective, **SHORT)


# "auto"


def timed(monkeypatch, seconds):
    """Make forms take the time that a function returns; return the forms that were timed."""
    asked = []

    def time(_self, runnings):
        forms = [running.form for running in runnings]
        asked.extend(forms)
        return [seconds(form) for form in forms]

    monkeypatch.setattr(Planner, "_time", time)
    return asked


def test_auto_takes_the_fastest(network, monkeypatch):
    objective = objective_of(network)
    brain = dataclasses.replace(JOINED, dtype=torch.bfloat16)
    asked = timed(monkeypatch, lambda form: 1.0 if form.dtype else 3.0)
    plan = plan_of(objective, "auto")
    assert asked == [JOINED, brain]
    assert plan.form == brain
    assert plan.notes == ("torch.float32: takes 3.00 times as long",)
    timed(monkeypatch, lambda form: 3.0 if form.dtype else 1.0)
    plan = plan_of(objective, "auto")
    assert plan.form == JOINED
    assert plan.notes == (f"{brain}: takes 3.00 times as long",)


def test_auto_needs_a_gain_worth_its_rounding(network, monkeypatch):
    objective = objective_of(network)
    timed(monkeypatch, lambda form: 0.97 if form.dtype else 1.0)
    assert plan_of(objective, "auto").form == JOINED
    timed(monkeypatch, lambda form: 0.93 if form.dtype else 1.0)
    assert plan_of(objective, "auto").form.dtype == torch.bfloat16


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
def test_auto_takes_only_what_agrees(monkeypatch, function, note):
    asked = timed(monkeypatch, lambda form: 1.0 if form.dtype else 3.0)
    plan = plan_of(objective_of(Network(function), ""), "auto")
    assert asked == [JOINED]
    assert plan.form == JOINED
    assert sum(note in line for line in plan.notes) == 2


def test_auto_tries_autocast_where_a_cast_fails(monkeypatch):
    timed(monkeypatch, lambda form: 1.0 if form.dtype else 3.0)
    plan = plan_of(objective_of(refusing(), ""), "auto")
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


# Networks and mistakes of users


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


# Memory


def test_views_per_pass_by_the_memory(monkeypatch):
    """A network whose activations are known: nothing but what squares keep for their gradient."""

    def squares(_m, y):
        return y.square().square()

    model = Network(squares)
    model.conv = nn.Identity()
    model.weight = nn.Parameter(torch.ones(()))
    objective = objective_of(model.eval(), "")
    image = 4 * 3 * 20 * 20
    kept = 3 * image  # the inputs of two squares, and that of the score's mean of squares
    for free, expected in ((100 * kept, 60), (10 * kept, 6), (kept, 1), (0, 1), (None, None)):
        monkeypatch.setattr(plan_module, "available_memory", lambda _device, free=free: free)
        assert plan_of(objective, views=views_of(4)).views_per_pass == expected


def test_parameters_are_no_activations(monkeypatch):
    """Neither are their copies in another type."""
    model = Network(lambda m, y: m.linear(y.flatten(1)), linear=nn.Linear(8 * 18 * 18, 400))
    objective = objective_of(model, "")
    monkeypatch.setattr(plan_module, "available_memory", lambda _device: 10**8)
    parameters = sum(4 * parameter.numel() for parameter in model.parameters())
    own = plan_of(objective).views_per_pass
    assert own > 10**8 / parameters
    half = plan_of(objective, "bfloat16").views_per_pass
    assert half >= 1.5 * own


def test_what_fits_the_memory_is_what_runs(network, monkeypatch):
    objective = Objective.neuron(network, "7", [1, 2, 3], input_shape=INPUT)
    sizes = []
    network[7].register_forward_hook(lambda _m, _i, output: sizes.append(len(output)))
    expected = maco_batch(objective, **SHORT)
    monkeypatch.setattr(plan_module, "available_memory", lambda _device: 0)
    sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = maco_batch(objective, **SHORT)
    assert max(sizes) <= PROBE_VIEWS
    assert set(sizes[-9:]) == {1}
    assert (result.images - expected.images).abs().max() <= 1e-3


def test_no_more_views_than_there_are(network):
    """A plan is made with a few views of the first image."""
    sizes = []
    network[7].register_forward_hook(lambda _m, _i, output: sizes.append(len(output)))
    objective = objective_of(network, "7")
    sizes.clear()
    plan_of(objective, views=views_of(50))
    assert max(sizes) == PROBE_VIEWS
    sizes.clear()
    plan_of(objective, views=views_of(1))
    assert max(sizes) == 1


def test_a_plan_describes_itself(network):
    rows = dict(plan_of(objective_of(network, "7")).describe())
    assert rows["runs"] == "joined convolutions, channels last"
    assert (
        rows["joined"]
        == "2 convolutions with 1 batch normalizations, 0 sums, 2 ReLUs and 0 paddings"
    )
    assert "Winograd" not in rows  # too few channels


@pytest.mark.skipif(not has_winograd_kernel(torch.zeros(1)), reason="no kernel for the processor")
def test_a_plan_counts_its_winograd_convolutions():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1),
        nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 40, 3), nn.Conv2d(40, 8, 1),
    ).eval()  # fmt: skip
    objective = objective_of(network, "6")
    rows = dict(plan_of(objective).describe())
    assert rows["Winograd"] == "2 convolutions of 3 x 3"
    assert "Winograd" not in dict(plan_of(objective, "bfloat16").describe())
