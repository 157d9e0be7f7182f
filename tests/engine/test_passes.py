import copy
import re
import types
import warnings

import pytest
import torch
from engine.test_state import assert_same, fingerprint
from torch import nn

from fvfast import Objective, maco, maco_batch
from fvfast.engine.passes import Passes, is_out_of_memory

INPUT = (3, 20, 20)
SHORT = {
    "nb_steps": 3, "nb_crops": 4, "box_size": 0.9, "custom_shape": (32, 32), "progress": False,
}  # fmt: skip


def direction(seed, size):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def crop_variance(outputs, mask):
    """A score that joins all crops of an image."""
    return (outputs * mask).flatten(1).sum(1).var()


def worst_crop(images):
    return images.flatten(1).square().mean(1).amin()


OBJECTIVES = {
    "neurons": lambda m: Objective.neuron(m, "7", [0, 3, 5], input_shape=INPUT),
    "channels": lambda m: Objective.channel(m, "3", [0, 3, 5], input_shape=INPUT),
    "directions": lambda m: Objective.direction(
        m, "3", [direction(seed, (16, 8, 8)) for seed in range(3)], input_shape=INPUT
    ),
    "a layer": lambda m: Objective.layer(m, "1", input_shape=INPUT),
    "several layers": lambda m: (
        Objective.channel(m, "0", [1, 2], multiplier=0.5, input_shape=INPUT)
        - Objective.layer(m, "4", multiplier=3, input_shape=INPUT)
        + Objective.direction(m, "6", direction(0, 16), input_shape=INPUT)
        + Objective.neuron(m, "7", [0, 3], input_shape=INPUT)
    ),
    "masks": lambda m: Objective(
        m, ["2"], [[direction(seed, (8, 18, 18)) for seed in range(3)]], [crop_variance], [2.0],
        [["a", "b", "c"]], input_shape=INPUT,
    ),
    "functions": lambda m: Objective.from_callable(
        m, [lambda x: m(x)[:, 3], worst_crop, lambda x: m(x).square().sum()],
        names=["a", "b", "c"], input_shape=INPUT,
    ),
    "a function of the images and a layer": lambda m: (
        Objective.from_callable(None, worst_crop) + Objective.neuron(m, "7", [1, 2],
                                                                     input_shape=INPUT)
    ),
    "groups of images": lambda m: (
        Objective.channel(m, "3", [1, 2], input_shape=INPUT)
        + Objective.diversity(m, "3", 2, input_shape=INPUT)
        - Objective.alignment(m, "4", 2, input_shape=INPUT)
    ),
}  # fmt: skip


def passes_of(objective, views_per_pass=None, gradient_scale=1.0):
    return Passes(
        lambda first, last: objective.scorer(range(first, last)), "name", views_per_pass,
        gradient_scale, objective.group_size,
    )  # fmt: skip


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_number_of_views_per_pass(network, name):
    """Against one pass in float64, with at most twice the error of one pass in float32."""
    crops = 5

    def run(network, dtype, views_per_pass=None):
        objective = OBJECTIVES[name](network)
        count = len(objective.combination_names)
        generator = torch.Generator().manual_seed(0)
        views = torch.randn(count * crops, *INPUT, generator=generator).to(dtype)
        sizes = []

        def tapped(part):
            sizes.append(len(part))
            return objective.compile()[0](part)

        results = passes_of(objective, views_per_pass).run(tapped, views, count)
        assert not views.requires_grad
        assert max(sizes) <= (views_per_pass or len(views))
        return results

    exact = run(copy.deepcopy(network).double(), torch.float64)
    theirs = run(network, torch.float32)
    for views_per_pass in (1, 2, 3, 5, 7, 10, 14, 15, 100):
        ours = run(network, torch.float32, views_per_pass)
        for mine, its, right in zip(ours, theirs, exact, strict=True):
            assert mine.shape == its.shape
            assert mine.dtype == its.dtype
            # The scores are float32 in any case; batches of another size round in another way.
            eps = torch.finfo(torch.float32).eps
            own = float((its.double() - right).norm())
            error = float((mine.double() - right).norm())
            assert error <= 2 * own + 2 * eps * float(right.norm())


def test_the_gradient_scale_does_not_show(network):
    objective = OBJECTIVES["several layers"](network)
    views = torch.randn(4 * 3, *INPUT)
    tapped, *_ = objective.compile()
    for views_per_pass in (None, 2):
        plain, scaled = (
            passes_of(objective, views_per_pass, scale).run(tapped, views, 4)
            for scale in (1.0, 2.0**20)
        )
        # A power of two: no bit of a mantissa changes.
        assert torch.equal(plain[0], scaled[0])
        assert torch.equal(plain[1], scaled[1])


@pytest.mark.parametrize("weight", [1, torch.ones((), requires_grad=True)])
def test_a_score_without_a_gradient_is_explained(weight):
    """Also one that has a gradient, but not of the images."""
    objective = Objective.from_callable(
        None, lambda x: x.detach().mean() * weight, input_shape=INPUT
    )
    tapped, *_ = objective.compile()
    for views_per_pass in (None, 1):
        passes = passes_of(objective, views_per_pass)
        with pytest.raises(ValueError, match="name does not depend on the image"):
            passes.run(tapped, torch.randn(2, *INPUT), 1)


ERRORS = {
    "of a device": lambda: torch.OutOfMemoryError("CUDA out of memory."),
    "of the processor": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"
    ),
}


class Limited(nn.Module):
    """Runs out of memory above a number of views; counts the views of its passes."""

    def __init__(self, limit, error=ERRORS["of a device"]):
        super().__init__()
        # In an object of their own: attributes and lists of modules are put back after a run.
        self._world = types.SimpleNamespace(limit=limit, sizes=[])
        self.error = error

    @property
    def limit(self):
        return self._world.limit

    @limit.setter
    def limit(self, views):
        self._world.limit = views

    @property
    def sizes(self):
        return self._world.sizes

    def forward(self, x):
        if len(x) > self.limit:
            raise self.error()
        self.sizes.append(len(x))
        return x


def limited(network, *arguments):
    """The network, which only fits the memory from its second part on with few views."""
    part = Limited(*arguments)
    model = nn.Sequential(*network)
    model.insert(3, part)
    return model.eval(), part


def test_what_is_out_of_memory():
    assert all(is_out_of_memory(make()) for make in ERRORS.values())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("error", ERRORS)
def test_fewer_views_when_the_memory_is_full(network, error):
    model, part = limited(network, 3, ERRORS[error])
    objective = Objective.channel(model, "4", [0, 1], input_shape=INPUT)
    views = torch.randn(12, *INPUT)
    tapped, *_ = objective.compile()
    part.limit = 12
    expected = passes_of(objective).run(tapped, views, 2)
    part.limit, passes = 3, passes_of(objective)
    with pytest.warns(RuntimeWarning) as warned:
        results = passes.run(tapped, views, 2)
    assert [str(warning.message) for warning in warned] == [
        "out of memory with 12 views at once: going on with 6.",
        "out of memory with 6 views at once: going on with 3.",
    ]
    torch.testing.assert_close(results, expected)
    passes.run(tapped, views, 2)  # no further warning
    assert passes.views_per_pass == 3


@pytest.mark.parametrize("error", ERRORS)
def test_views_that_may_not_be_split(network, error):
    model, part = limited(network, 12, ERRORS[error])
    objective = Objective.channel(model, "4", [0, 1], input_shape=INPUT)
    tapped, views = objective.compile()[0], torch.randn(12, *INPUT)
    passes = Passes(lambda first, last: objective.scorer(range(first, last)), "name", splits=False)
    passes.run(tapped, views, 2)
    part.limit = 11
    with pytest.raises(RuntimeError, match=re.escape(str(ERRORS[error]()))):
        passes.run(tapped, views, 2)
    part.limit = 12
    assert passes.run(tapped, views, 2)[0].shape == (2,)


def test_another_error_is_no_lack_of_memory(network):
    model, part = limited(network, 3, lambda: RuntimeError("something else"))
    part.limit = 12
    objective = Objective.channel(model, "4", 0, input_shape=INPUT)
    part.limit = 3
    with pytest.raises(RuntimeError, match="something else"):
        passes_of(objective).run(objective.compile()[0], torch.randn(12, *INPUT), 1)


@pytest.mark.parametrize("error", ERRORS)
def test_a_single_view_that_does_not_fit(network, error):
    model, part = limited(network, 3, ERRORS[error])
    objective = Objective.channel(model, "4", 0, input_shape=INPUT)
    part.limit = 0
    before = fingerprint(model)
    with (
        pytest.raises(torch.OutOfMemoryError, match="not even one view of name fits the memory"),
        pytest.warns(RuntimeWarning, match="going on with 1"),
    ):
        passes_of(objective).run(objective.compile()[0], torch.randn(2, *INPUT), 1)
    assert_same(before, fingerprint(model))
    with (
        pytest.raises(torch.OutOfMemoryError, match=r"not even one view of Channel#4_0 fits"),
        pytest.warns(RuntimeWarning) as warned,
    ):
        maco(objective, **SHORT)
    assert str(warned[-1].message) == "out of memory with 2 views at once: going on with 1."
    assert_same(before, fingerprint(model))


def filled_up_at(step, limit, part):
    """A callback: another program takes memory in the middle of a run."""

    def callback(report):
        if report.step == step:
            part.limit = limit

    return callback


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_maco_goes_on_when_the_memory_fills_up(network, error, limit):
    model, part = limited(network, 100, ERRORS[error])
    objective = Objective.neuron(model, "8", 3, input_shape=INPUT)
    before = fingerprint(model)
    image, transparency = maco(objective, **SHORT)
    with pytest.warns(RuntimeWarning) as warned:
        again, other = maco(objective, **SHORT, callback=filled_up_at(0, limit, part))
    assert str(warned[0].message) == "out of memory with 4 views at once: going on with 2."
    assert len(warned) == (2 if limit == 1 else 1)
    assert (again - image).abs().max() <= 1e-3 * image.abs().max()
    assert (other - transparency).abs().max() <= 1e-3 * transparency.max()
    assert max(part.sizes[-3:]) <= limit
    assert_same(before, fingerprint(model))


@pytest.mark.parametrize("limit", [2, 4, 9])
def test_maco_batch_goes_on_when_the_memory_fills_up(network, limit):
    model, part = limited(network, 100)
    objective = Objective.neuron(model, "8", [1, 3, 5, 6, 7], input_shape=INPUT)
    before = fingerprint(model)
    settings = {**SHORT, "batch_size": 3}
    expected = maco_batch(objective, **settings)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = maco_batch(objective, **settings, callback=filled_up_at(1, limit, part))
    assert warned
    assert all("out of memory" in str(warning.message) for warning in warned)
    assert result.names == expected.names
    for mine, its in ((result.images, expected.images), (result.scores, expected.scores)):
        assert (mine - its).abs().max() <= 1e-3 * its.abs().max()
    assert_same(before, fingerprint(model))
