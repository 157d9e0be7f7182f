"""Forms are kept between calls, as long as the network has not changed."""

import contextlib
import copy
import dataclasses
import gc
import logging
import warnings
import weakref

import pytest
import torch
from injected_runs import graphs_by, maco_with
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import fvfast.engine
from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.graphs.cuda_graph import EAGER_PASSES
from fvfast.engine.graphs.repeated_pass import RepeatedPass
from fvfast.engine.memory import free_memory
from fvfast.engine.rewrite.kept_forms import (
    KEPT_FORMS,
    KEPT_PASSES,
    SHARED,
    FormStore,
    KeptForm,
    choose_form,
    key_of,
)
from fvfast.engine.rewrite.plan import Plan
from fvfast.engine.starting import kept_engine
from fvfast.run.batches import draw_batches
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run

INPUT = (3, 20, 20)
STEPS = {"nb_steps": EAGER_PASSES + 2, "nb_crops": 3, "custom_shape": (32, 32)}
SHORT = {**STEPS, "progress": False}


@pytest.fixture(autouse=True)
def nothing_kept():
    fvfast.engine.clear()
    yield
    fvfast.engine.clear()


class Work:
    """Counts choices of a form: the log says each."""

    def __init__(self, caplog):
        caplog.set_level(logging.INFO, "fvfast.engine.rewrite.kept_forms")
        self._caplog = caplog

    @property
    def choices(self):
        return sum(record.msg.startswith("chose the form") for record in self._caplog.records)


@pytest.fixture
def work(caplog):
    return Work(caplog)


class Folds(TorchDispatchMode):
    """Counts convolutions of a network that are folded, which begins with weights in float64."""

    def __init__(self, network):
        super().__init__()
        self._shapes = [one.weight.shape for one in network if isinstance(one, nn.Conv2d)]
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") == torch.float64:
            self.count += args[0].shape in self._shapes
        return func(*args, **kwargs)


class FrozenReplay:
    """Replaces CUDA graphs: replays the operations of one pass on the tensors that it had.

    Numbers of the host, and what Python decided, stay what they were when the pass was captured.
    """

    def __init__(self):
        self.captures = self.replays = 0

    def __call__(self, run, views):
        self.captures += 1
        operations = make_fx(run)(views.detach().clone())

        def replay(views):
            self.replays += 1
            scores, gradient = operations(views.detach().clone())
            return scores.clone(), gradient

        return replay


def channels(model, ids=(0, 1), layer="3", **settings):
    return Objective.channel(model, layer, list(ids), input_shape=INPUT, **settings)


def neuron(model, unit=1):
    return Objective.neuron(model, "7", unit, input_shape=INPUT)


def picture(model, unit=1, **settings):
    return maco(neuron(model, unit), **{**SHORT, **settings})[0]


def picture_of_a_copy(model, unit=1, **settings):
    """The result of a network for which nothing was kept."""
    return picture(copy.deepcopy(model), unit, **settings)


def test_the_second_call_chooses_and_folds_nothing(network, work):
    first = picture(network)
    assert work.choices == 1
    with Folds(network) as folds:
        assert torch.equal(picture(network), first)
        other = picture(network, unit=2)
    assert work.choices == 1
    assert folds.count == 0
    assert torch.equal(other, picture_of_a_copy(network, unit=2))
    assert not torch.equal(other, first)


def test_a_form_is_folded_once(network):
    """The weights of the trial that was chosen are those of the run."""
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network)
    with Folds(network) as folds:
        picture(network)
    assert folds.count == convolutions


@pytest.mark.parametrize("draw", [maco, optimize])
def test_both_calls_share_what_is_kept(network, work, draw):
    objective = Objective.neuron(network, "7", 1, input_shape=INPUT)
    settings = {"nb_steps": 2, "custom_shape": (32, 32), "progress": False}
    draw(objective, **settings)
    assert work.choices == 1
    maco(objective, **settings)
    optimize(objective, **settings)
    assert work.choices == 1


def in_place(change):
    def changed(model):
        with torch.no_grad():
            change(model)

    return changed


def load_other_weights(model):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["3.weight"] = state["3.weight"].flip(0)
    model.load_state_dict(state)


def write_through_numpy(model):
    model[0].weight.detach().numpy()[0] *= -3


def replace_a_module(model):
    torch.manual_seed(5)
    model[3] = nn.Conv2d(8, 16, 3, stride=2).eval()


def replace_a_parameter(model):
    model[3].weight = nn.Parameter(model[3].weight.detach() * 2)


def prune_by_a_hook(model):
    model[3].register_forward_pre_hook(
        lambda module, _: (module.weight.data.clamp_(-0.02, 0.02), None)[1]
    )


CHANGES = {
    "other weights": load_other_weights,
    "a weight in place": in_place(lambda m: m[3].weight.mul_(2)),
    "a weight's data": lambda m: m[3].weight.data.mul_(2),
    "the order of a weight's data": lambda m: m[3].weight.data.copy_(m[3].weight.data.flip(0)),
    "a weight through numpy": write_through_numpy,
    "a bias's data": lambda m: m[0].bias.data.add_(0.5),
    "statistics": lambda m: m[1].running_mean.sub_(0.5),
    "the data of statistics": lambda m: m[1].running_var.data.mul_(4),
    "a weight that is not folded": in_place(lambda m: m[7].weight.mul_(-1)),
    "the stride": lambda m: setattr(m[3], "stride", (1, 1)),
    "the padding": lambda m: setattr(m[3], "padding", (1, 1)),
    "epsilon": lambda m: setattr(m[1], "eps", 0.7),
    "a module": replace_a_module,
    "a parameter": replace_a_parameter,
    "an activation": lambda m: setattr(m, "2", nn.Tanh().eval()),
    "a hook that changes outputs": lambda m: m[0].register_forward_hook(lambda *a: a[2] * -1),
    "a hook that changes weights": prune_by_a_hook,
    "no batch normalization": lambda m: setattr(m, "1", nn.Identity().eval()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_is_met_anew(network, work, change):
    before = picture(network)
    CHANGES[change](network)
    choices = work.choices
    after = picture(network)
    assert work.choices == choices + 1
    assert torch.equal(after, picture_of_a_copy(network))
    assert not torch.equal(after, before)


def test_another_type_is_met_anew(network, work):
    picture(network)
    network.double()
    after = picture(network)
    assert work.choices == 2
    assert torch.equal(after, picture_of_a_copy(network))
    network.float().half()
    assert torch.equal(picture(network), picture_of_a_copy(network))
    assert work.choices == 2 + 3


def test_a_hook_sees_every_pass_of_the_next_call(network, work):
    picture(network)
    seen = []
    network[0].register_forward_hook(lambda _m, _i, output: seen.append(output.isnan().any()))
    picture(network)
    assert work.choices == 2
    assert len(seen) >= SHORT["nb_steps"]
    assert not any(seen)


def test_a_hook_on_all_modules_counts(network, work):
    picture(network)
    handle = register_module_forward_hook(lambda *_: None)
    try:
        picture(network)
    finally:
        handle.remove()
    assert work.choices == 2


@pytest.mark.parametrize(
    "other",
    [
        {"precision": "bfloat16"},
        {"precision": "float32"},
        {"objective": lambda m: channels(m, [1])},
        {"objective": lambda m: Objective.neuron(m, "7", 1, input_shape=(3, 24, 24))},
        {
            "objective": lambda m: Objective.neuron(
                m, "7", 1, input_shape=INPUT, preprocess=lambda x: x * 2
            )
        },
    ],
)
def test_other_runs_have_forms_of_their_own(network, work, other):
    picture(network)
    settings = dict(other)
    make = settings.pop("objective", lambda m: Objective.neuron(m, "7", 1, input_shape=INPUT))
    drawn = maco(make(network), **SHORT, **settings)[0]
    assert work.choices == 2
    assert torch.equal(drawn, maco(make(copy.deepcopy(network)), **SHORT, **settings)[0])


class Normalization:
    """Preprocessing that is a method of an object."""

    def __init__(self, scale):
        self.scale = scale

    def apply(self, x):
        return x * self.scale


def test_a_method_is_the_same_function_each_time(network, work):
    normalization = Normalization(2.0)

    def draw():
        objective = Objective.neuron(
            network, "7", 1, input_shape=INPUT, preprocess=normalization.apply
        )
        return maco(objective, **SHORT)[0]

    first = draw()
    assert torch.equal(draw(), first)
    assert work.choices == 1
    normalization.scale = 3.0
    assert not torch.equal(draw(), first)


def test_functions_of_the_user_are_met_anew(network, work):
    """They may read other parts of the network each time."""
    reads = ["whole"]

    def score(images):
        return (network(images) if reads[0] == "whole" else network[:1](images)).flatten(1).mean(1)

    objective = Objective.from_callable(network, score, input_shape=INPUT)
    maco(objective, **SHORT)
    reads[0] = "first"
    drawn = maco(objective, **SHORT)[0]
    assert work.choices == 2
    fresh = maco(Objective.from_callable(network, score, input_shape=INPUT), **SHORT)[0]
    assert torch.equal(drawn, fresh)


def test_a_batch_chooses_once(network, work):
    objective = channels(network, [*range(16)] * 4)
    batch = maco_batch(objective, **SHORT, batch_size=4)
    assert work.choices == 1
    assert len(batch.names) == 64


def test_batches_share_a_captured_pass(network, work):
    objective = channels(network, [*range(11)])
    graphs = FrozenReplay()
    run = Run(objective, MacoSettings(**STEPS), progress=False, forms=graphs_by(graphs))
    captured = draw_batches(run, batch_size=4)
    assert graphs.captures == 2  # of four images, and of the three that are left
    # The first of both kinds begins with passes as they are; the second of four replays all.
    assert graphs.replays >= SHORT["nb_steps"]
    assert work.choices == 1
    expected = maco_batch(objective, **SHORT, batch_size=4)  # on the processor: without a graph
    # The operations are the same ones in the same order.
    assert torch.equal(captured.images, expected.images)
    assert torch.equal(captured.scores, expected.scores)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, n: Objective.neuron(m, "7", n, input_shape=INPUT),
        lambda m, n: channels(m, [n]),
        lambda m, n: Objective.direction(
            m, "3", torch.randn(16, generator=torch.Generator().manual_seed(n)), input_shape=INPUT
        ),
        lambda m, n: channels(m, [n]) * 2 - Objective.layer(m, "4", input_shape=INPUT),
    ],
)
def test_a_captured_pass_turns_to_other_targets(network, make):
    graphs = FrozenReplay()
    store = graphs_by(graphs)
    for unit in (1, 2, 3):
        drawn = maco_with(store, make(network, unit), **STEPS)
        assert torch.equal(drawn, maco(make(copy.deepcopy(network), unit), **SHORT)[0])
    assert graphs.captures == 1


def test_other_kinds_of_scores_are_captured_apart(network):
    graphs = FrozenReplay()
    store = graphs_by(graphs)
    for objective in (
        channels(network, [1]),
        channels(network, [1], multiplier=2.0),
        Objective.direction(network, "3", torch.ones(16), input_shape=INPUT),
        Objective.direction(network, "3", torch.ones(16), cossim_pow=1.0, input_shape=INPUT),
        Objective.layer(network, "3", input_shape=INPUT),
        Objective.layer(network, "3", reducer="mean", input_shape=INPUT),
    ):
        captures = graphs.captures
        drawn = maco_with(store, objective, **STEPS)
        assert graphs.captures == captures + 1
        assert torch.equal(drawn, maco(objective, **SHORT)[0])


def test_a_captured_pass_goes_when_weights_move(network):
    """Its weights are read where they lay."""
    graphs = FrozenReplay()
    store = graphs_by(graphs)
    maco_with(store, neuron(network), **STEPS)
    network[7].weight.data = network[7].weight.data.clone()
    maco_with(store, neuron(network), **STEPS)
    assert graphs.captures == 2


@pytest.mark.parametrize("captured", [False, True])
def test_nothing_is_kept_for_a_network_that_is_gone(network, captured):
    graphs = FrozenReplay()
    store = graphs_by(graphs) if captured else FormStore()
    model = copy.deepcopy(network)
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    maco_with(store, neuron(model), **STEPS)
    assert graphs.captures == captured
    assert len(store) == 1
    gone = weakref.ref(model)
    del model
    gc.collect()  # networks and objectives of the test are reference cycles
    assert gone() is None
    assert len(store) == 0
    assert not any(weight() is not None for weight in weights)


def test_a_layer_that_is_the_network_itself_does_not_keep_it(network):
    model = copy.deepcopy(network)
    maco(Objective.layer(model, "", input_shape=INPUT), **SHORT)
    assert len(SHARED) == 1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def folded_weights(network):
    """Weak references to what was made for a network."""
    form = next(iter(SHARED._forms[network].values()))
    return [
        weakref.ref(convolution.weight)
        for rewriting in form.running._rewritings.values()
        for convolution in rewriting.convolutions.values()
    ]


@pytest.mark.parametrize("release", [fvfast.engine.clear, lambda: free_memory(torch.device("cpu"))])
def test_what_is_kept_can_be_freed(network, work, release):
    first = picture(network)
    weights = folded_weights(network)
    assert len(weights) == 2
    release()
    gc.collect()
    assert not any(weight() is not None for weight in weights)
    assert len(SHARED) == 0
    assert torch.equal(picture(network), first)
    assert work.choices == 2


def test_the_forms_used_last_are_kept(network, work):
    models = [copy.deepcopy(network) for _ in range(KEPT_FORMS + 1)]
    for model in models:
        picture(model)
    assert len(SHARED) == KEPT_FORMS
    choices = work.choices
    picture(models[-1])
    assert work.choices == choices
    picture(models[0])
    assert work.choices == choices + 1


def test_what_others_keep_goes_where_the_views_of_one_image_do_not_fit(network):
    other = copy.deepcopy(network)
    picture(other)
    assert len(SHARED) == 1
    objective, views, store = neuron(network), torch.randn(3, *INPUT), FormStore()
    tapped, scorer, (name,), _ = objective.compile()
    with borrowed(network):
        form = choose_form(tapped, scorer, views, name, None)
        form.plan = dataclasses.replace(form.plan, bytes_per_view=1e18)
        store.put(network, key_of(tapped, views, None), form)
        with kept_engine(
            tapped, views, lambda *_: scorer, name, None, runs_user_code=False, store=store
        ) as engine:
            assert engine.plan.views_per_pass == 1
            assert engine.gradients(views, 1)[1].isfinite().all()
    assert len(SHARED) == 0


def test_the_captured_passes_used_last_are_kept(network):
    form = KeptForm(network, Plan(), None)
    passes = [form.repeated(network, kind, RepeatedPass) for kind in range(KEPT_PASSES + 1)]
    assert form.repeated(network, KEPT_PASSES, RepeatedPass) is passes[-1]
    assert form.repeated(network, 0, RepeatedPass) is not passes[0]


def test_a_pass_in_use_is_not_dropped(network):
    form = KeptForm(network, Plan(), None)
    used = [form.repeated(network, kind, RepeatedPass) for kind in range(KEPT_PASSES)]
    for one in used:
        one.begin(lambda *_: None, lambda _: None, lambda *_: None)
    form.repeated(network, "another", RepeatedPass)
    assert [form.repeated(network, kind, RepeatedPass) for kind in range(KEPT_PASSES)] == used


def test_a_pass_between_runs_says_so():
    with pytest.raises(AssertionError, match="belongs to no run"):
        RepeatedPass()(torch.zeros(1))


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_a_run_that_failed_leaves_nothing(network, error):
    def fail(_report):
        raise error

    with contextlib.suppress(RuntimeError), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted")
        picture(network, callback=fail)
    assert torch.equal(picture(network), picture_of_a_copy(network))


def test_a_call_within_a_call(network, work):
    inner = []

    def draw(report):
        if report.step == 0:
            inner.append(picture(network, unit=2))

    outer = picture(network, callback=draw)
    assert work.choices == 2  # the form of the outer call is in use
    assert torch.equal(outer, picture_of_a_copy(network))
    assert torch.equal(inner[0], picture_of_a_copy(network, unit=2))
    choices = work.choices
    picture(network)
    assert work.choices == choices


def test_a_callback_that_changes_weights_between_batches(network, work):
    def train(_batch):
        with torch.no_grad():
            network[3].weight.mul_(-1)

    objective = channels(network, [1, 1])
    batch = maco_batch(objective, **SHORT, batch_size=1, on_result=train)
    assert work.choices == 2
    with torch.no_grad():
        network[3].weight.mul_(-1)
    expected = maco(channels(copy.deepcopy(network), [1]), **SHORT)[0]
    assert torch.equal(batch.images[1], expected)


def test_the_scale_of_gradients_follows_the_score(network):
    """float16 cannot hold the gradients of a small score."""
    network.half()
    for multiplier in (1.0, 2.0**-20):
        drawn, exact = (
            maco(channels(model, [1], multiplier=multiplier), **SHORT)[0]
            for model in (network, copy.deepcopy(network).float())
        )
        # A vanished gradient would be warned of, which is an error here. Roundings of float16 add
        # up over the steps to some percent of the picture.
        assert float((drawn - exact).norm() / exact.norm()) < 0.1
    form = next(iter(SHARED._forms[network].values()))
    scales = [
        form.plan.for_run(
            channels(network, [1], multiplier=multiplier).scorer([0]), torch.device("cpu")
        ).gradient_scale
        for multiplier in (1.0, 2.0**-20)
    ]
    assert scales[1] == scales[0] * 2**20


class WithoutMemory(torch.Tensor):
    """A tensor whose values another one has, as quantized weights and shards have theirs."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)

    def __init__(self, values):
        self.values = values

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args, kwargs = tree_map_only(cls, lambda tensor: tensor.values, (args, kwargs or {}))
        result = func(*args, **kwargs)
        return cls(result) if func is torch.ops.aten.detach.default else result


def test_networks_whose_memory_cannot_be_read_still_run(network, work):
    """Their weights are cast in each run, as nothing tells whether they are what they were."""
    values = network[3].weight.detach()
    network[3].weight = nn.Parameter(WithoutMemory(values))
    first = picture(network, precision="bfloat16")
    assert torch.equal(picture(network, precision="bfloat16"), first)
    assert work.choices == 2
    values.mul_(-1)  # the parameter has another version for no change of these
    changed = picture(network, precision="bfloat16")
    assert not torch.equal(changed, first)
    fvfast.engine.clear()
    assert torch.equal(picture(network, precision="bfloat16"), changed)


def test_the_first_replay_of_a_run_is_compared():
    """Something that the pass depends on changes between two runs, and only the results show it."""
    factor = [2.0]
    replay = FrozenReplay()

    def run(views):
        return views.flatten(1).sum(1) * factor[0], factor[0] * torch.ones_like(views)

    one = RepeatedPass(replay)

    def draw():
        one.begin(lambda *_: None, lambda _: None, lambda _passes, views: run(views))
        results = [one(torch.randn(2, *INPUT))[1] for _ in range(EAGER_PASSES + 2)]
        one.end()
        assert all(
            torch.equal(gradient, torch.full_like(gradient, factor[0])) for gradient in results
        )

    draw()
    draw()
    assert replay.captures == 1
    factor[0] = 3.0
    draw()
    assert replay.captures == 2
    assert one.status == "replayed from a CUDA graph"
