"""Networks that do more than compute: a run gives the picture, and leaves no trace of itself."""

import collections
import copy
import hashlib
import random
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from selection import thorough
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune
from torch.utils._pytree import tree_map

import fvfast.engine
from fvfast import Objective, maco, maco_batch, optimize

INPUT = (3, 12, 12)
SHORT = {"nb_steps": 3, "nb_crops": 2, "custom_shape": (16, 16), "progress": False}
OPTIMIZE = {"nb_steps": 3, "custom_shape": (16, 16), "progress": False}


@pytest.fixture(autouse=True)
def nothing_kept():
    fvfast.engine.clear()


class Network(nn.Module):
    """A small network; ``around`` may do what it likes before the classifier."""

    def __init__(self, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 10 * 10, 5)
        for name, part in parts.items():
            setattr(self, name, part)
        self.eval()

    def around(self, x):
        return x

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(self.around(x).flatten(1))


# What a network is


def bits(tensor):
    if type(tensor) not in (torch.Tensor, nn.Parameter):
        return repr(tensor)
    return (
        tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad,
        # Of a copy: memory that numpy has seen cannot be resized any more.
        hashlib.sha256(tensor.detach().clone().reshape(-1).view(torch.uint8).numpy()).digest(),
    )  # fmt: skip


def described(value, seen):
    """All that a value is: each bit of tensors, what others hold, and which object it is."""
    if isinstance(value, torch.Tensor):
        return id(value), bits(value)
    if id(value) in seen:
        return id(value)
    seen.add(id(value))
    if isinstance(value, nn.Module):
        return id(value), described(value.__dict__, seen)
    if isinstance(value, dict):
        return id(value), [(key, described(one, seen)) for key, one in value.items()]
    if isinstance(value, (list, tuple, collections.deque)):
        return id(value), [described(one, seen) for one in value]
    if isinstance(value, torch.Generator):
        return id(value), value.get_state().tolist()
    if isinstance(value, random.Random):
        return id(value), value.getstate()
    if isinstance(value, np.random.Generator):
        return id(value), str(value.bit_generator.state)
    return id(value), repr(value)


def everything(model):
    # Modules that changed their class (lazy ones) too.
    return [type(module) for module in model.modules()], described(model, set())


def global_state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()),
        torch.is_grad_enabled(), torch.get_default_dtype(),
        len(torch.overrides._get_current_function_mode_stack()),
    )  # fmt: skip


# Networks


class CountsInItsData(Network):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def around(self, x):
        self.n.data.add_(1)
        return x * (1 + 0.01 * self.n)


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


class Spikes(Network):
    """A state in an attribute, a list and a dictionary, some of it written in place."""

    def __init__(self):
        super().__init__()
        self.membrane = None
        self.current = torch.zeros(4, 1, 1)
        self.history = []
        self.memory = {"last": [torch.zeros(4, 1, 1)], "calls": 0}

    def around(self, x):
        level = x.mean((0, 2, 3), keepdim=True)[0].detach()
        self.membrane = level if self.membrane is None else 0.9 * self.membrane + level
        self.current += level
        self.history.append(level)
        self.memory["last"][0].mul_(0.5).add_(level)
        self.memory["calls"] += 1
        return x * (1 + self.membrane + self.current + len(self.history) + self.memory["last"][0])


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


def draw(model, call=maco, **settings):
    objective = Objective.neuron(model, "fc", 2, input_shape=INPUT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(training mode|interrupted|not finite)")
        result = call(objective, **{**(OPTIMIZE if call is optimize else SHORT), **settings})
    return result[0][-1] if call is optimize else result[0]


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


@pytest.mark.parametrize("name", set(ZOO) - {"ResizesABuffer"})
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


# Types


class Towers(nn.Module):
    """As in OpenCLIP: a scale in float32 beside a body in another type."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.conv = nn.Conv2d(3, 8, 3).to(dtype)
        self.norm = nn.LayerNorm(8)  # in float32, as some keep it
        self.fc = nn.Linear(8, 5).to(dtype)
        self.dtype = dtype
        self.eval()

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.logit_scale * self.fc(self.norm(x.float()).to(self.dtype)).float()


class FunctionalTowers(Towers):
    def forward(self, x):
        kernel = self.conv.weight.flatten(1)
        patches = F.unfold(F.pad(x, (1, 1, 1, 1)), 3)
        x = (kernel @ patches).mean(2)
        return self.logit_scale * self.fc(self.norm(x.float()).to(self.dtype)).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
@pytest.mark.parametrize("made", [Towers, FunctionalTowers])
@pytest.mark.parametrize("call", [maco, optimize])
def test_images_have_the_type_of_what_reads_them_first(made, dtype, call):
    model = made(dtype)
    seen = []
    model.conv.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].dtype))
    image = draw(model, call)
    assert image.dtype == torch.float32
    assert set(seen) <= {dtype}
    assert model.conv.weight.dtype == dtype
    assert draw(model, call, precision="bfloat16").isfinite().all()


def test_functions_get_that_type_too():
    model = Towers(torch.bfloat16)
    objective = Objective.from_callable(model, lambda x: model(x)[:, 1], input_shape=INPUT)
    assert maco(objective, **SHORT)[0].isfinite().all()


def test_the_type_is_found_again_after_a_change():
    model = Towers(torch.bfloat16)
    draw(model)
    model.conv.half()
    assert draw(model).isfinite().all()


# Writing to the images


def subtracts(x):
    x -= 0.5
    return x


@pytest.mark.parametrize(
    "first",
    [
        lambda x: x.mul_(2),
        subtracts,
        nn.ReLU(inplace=True),
        lambda x: F.hardtanh_(x),
        lambda x: x[:, 0].zero_() is None or x,
        lambda x: x.flatten(1).mul_(2).view_as(x),
    ],
)
@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_images_may_be_written_to(first, call):
    model = Network()
    through_model = nn.Sequential(
        collections.OrderedDict(first=First(first), body=Network())
    ).eval()
    objectives = {
        "in the network": Objective.neuron(
            through_model, "body.fc", 2, names="x", input_shape=INPUT
        ),
        "before it": Objective.neuron(
            model, "fc", 2, names="x", input_shape=INPUT, preprocess=first
        ),
        "in a function": Objective.from_callable(
            model, lambda x: model(first(x))[:, 2] / 5, names="x", input_shape=INPUT
        ),
        "not at all": Objective.from_callable(
            model, lambda x: model(first(x.clone()))[:, 2] / 5, names="x", input_shape=INPUT
        ),
    }
    settings = {**(OPTIMIZE if call is optimize else SHORT), "seed": 1}
    if call is optimize:
        settings["regularizers"] = [lambda images: images.square().mean((1, 2, 3))]
    pictures = {name: call(objective, **settings)[0] for name, objective in objectives.items()}
    if call is optimize:
        pictures = {name: images[-1] for name, images in pictures.items()}
    for name, image in pictures.items():
        torch.testing.assert_close(image, pictures["not at all"], msg=name)


class First(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_images_that_do_not_fit_at_once_are_not_changed(monkeypatch):
    """Each part of them goes through the network twice."""
    monkeypatch.setattr("fvfast.engine.rewrite.plan.available_memory", lambda _device: 1)
    model = nn.Sequential(collections.OrderedDict(first=First(subtracts), fc=nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 12 * 12, 5)))).eval()  # fmt: skip
    in_parts = draw(model)
    monkeypatch.undo()
    fvfast.engine.clear()
    torch.testing.assert_close(in_parts, draw(model))


# Threads


@pytest.mark.parametrize("precision", [None, thorough("bfloat16"), "float16"])
def test_other_threads_use_the_network_meanwhile(precision):
    model = Network()
    images = torch.randn(2, *INPUT)
    with torch.no_grad():
        expected = model(images)
    stop, results, failures = threading.Event(), [], []

    def serve():
        while not stop.is_set():
            try:
                with torch.no_grad():
                    results.append(torch.equal(model(images), expected))
                    results.append(model.conv.weight.dtype == torch.float32)
                    results.append(all(p.dtype == torch.float32 for p in model.parameters()))
            except BaseException as error:  # noqa: BLE001 (whatever it is, it is a fault)
                failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for unit in range(3):
            objective = Objective.neuron(model, "fc", unit, input_shape=INPUT)
            maco(objective, **{**SHORT, "nb_steps": 12}, precision=precision)
            fvfast.engine.clear()
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert len(results) > 30
    assert all(results)


def test_two_threads_draw_with_one_network():
    model = Network()
    expected = [draw_unit(model, unit) for unit in range(4)]
    found = [None] * 4

    def work(unit):
        found[unit] = draw_unit(model, unit)

    threads = [threading.Thread(target=work, args=(unit,)) for unit in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, its in zip(found, expected, strict=True):
        assert torch.equal(mine, its)


def draw_unit(model, unit):
    return maco(Objective.neuron(model, "fc", unit, input_shape=INPUT), **SHORT)[0]


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


# Drawing


class Drops(Network):
    def around(self, x):
        return F.dropout(x, 0.5) * (0.5 + random.random()) * (0.5 + np.random.rand())


@pytest.mark.parametrize("call", [maco, optimize, maco_batch])
def test_the_seed_decides_what_a_network_draws(call):
    model = Drops()
    around = global_state()
    first = draw(model, call)
    torch.rand(3), random.random(), np.random.rand()  # other states of the generators
    assert torch.equal(draw(model, call), first)
    assert not torch.equal(draw(model, call, seed=1), first)
    assert global_state() != around


def test_each_step_draws_anew():
    model = Drops()
    seen = []
    model.fc.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0] == 0))
    draw(model)
    masks = seen[-3:]
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])


# Subclasses of tensors


class Wrapped(torch.Tensor):
    """Weights in eight bits, as a tensor without memory of its own."""

    @staticmethod
    def __new__(cls, values, scale):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=torch.float32)

    def __init__(self, values, scale):
        self.values8, self.scale = values, scale

    def __repr__(self):
        return f"Wrapped({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return cls(args[0].values8, args[0].scale)

        def whole(one):
            return one.values8 * one.scale if isinstance(one, cls) else one

        return func(*tree_map(whole, args), **tree_map(whole, kwargs or {}))


@pytest.mark.parametrize("layer", ["conv", "fc"])
def test_weights_without_memory_of_their_own(layer):
    plain, wrapped = Network(), Network()
    module = getattr(wrapped, layer)
    weight = module.weight.detach()
    scale = weight.abs().max() / 127
    values = (weight / scale).round().to(torch.int8)
    getattr(plain, layer).weight.data.copy_(values * scale)
    module.weight = nn.Parameter(Wrapped(values, scale), requires_grad=False)
    before = module.weight
    drawn = draw(wrapped)
    assert module.weight is before
    torch.testing.assert_close(drawn, draw(plain))
    torch.testing.assert_close(draw(wrapped), drawn)
    assert copy.deepcopy(plain) is not plain
