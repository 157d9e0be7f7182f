"""Interpolation between two objectives, and paths, whose pictures are kept alike."""

import copy

import numpy as np
import pytest
import torch
from engine.test_kept_forms import FrozenReplay
from injected_runs import drawn_with, graphs_by

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.run.maco_settings import MacoSettings

INPUT = (3, 20, 20)
STEPS = {"nb_steps": 4, "nb_crops": 3, "box_size": 0.9, "custom_shape": (32, 32)}
SHORT = {**STEPS, "progress": False}


def neuron(network, index, **settings):
    return Objective.neuron(network, "7", index, input_shape=INPUT, **settings)


def channel(network, index, **settings):
    return Objective.channel(network, "3", index, input_shape=INPUT, **settings)


def scores(objective, images):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(images)).numpy()


@pytest.fixture
def images():
    return torch.randn(10, *INPUT, generator=torch.Generator().manual_seed(1))


def ends(network):
    """Objectives of one and of several terms, with multipliers, directions and functions."""
    vector = torch.randn(16, generator=torch.Generator().manual_seed(2))
    return {
        "neurons": (neuron(network, 3), neuron(network, 5)),
        "sums": (
            2.0 * neuron(network, 3) - 0.5 * channel(network, 1),
            Objective.direction(network, "3", vector, input_shape=INPUT) / 4,
        ),
        "functions": (
            Objective.from_callable(None, lambda x: x.square().mean((1, 2, 3)), input_shape=INPUT),
            neuron(network, 5),
        ),
        "layers": (Objective.layer(network, "3", input_shape=INPUT), channel(network, 2)),
    }


@pytest.mark.parametrize("name", ["neurons", "sums", "functions", "layers"])
@pytest.mark.parametrize("count", [2, 5])
def test_interpolation_by_hand(network, images, name, count):
    first, last = ends(network)[name]
    shown = images[: 2 * count]
    found = scores(Objective.interpolation(first, last, count), shown)
    # Each picture's views by each end alone.
    pairs = shown.unflatten(0, (count, 2))
    own = [np.concatenate([scores(end, pair) for pair in pairs]) for end in (first, last)]
    share = np.arange(count) / (count - 1)
    np.testing.assert_allclose(found, (1 - share) * own[0] + share * own[1], rtol=1e-5, atol=1e-7)


def test_names(network):
    first, last = neuron(network, 3, names="a"), neuron(network, 5, names="b")
    names = Objective.interpolation(first, last).combination_names
    assert names == [
        "100 % a & 0 % b", "75 % a & 25 % b", "50 % a & 50 % b", "25 % a & 75 % b",
        "0 % a & 100 % b",
    ]  # fmt: skip
    thirds = Objective.interpolation(first, last, images=4).combination_names
    assert thirds[1] == "66.7 % a & 33.3 % b"
    for count in (2, 100, 101, 1000, 1001, 1500):
        names = Objective.interpolation(first, last, images=count).combination_names
        assert len(set(names)) == count
    whole = first + channel(network, 1, names="c")
    assert Objective.interpolation(whole, last, images=3).combination_names[1] == (
        "50 % a & 50 % c & 50 % b"
    )
    assert Objective.path(first, last, "3", images=3).combination_names == [
        "100 % a & 0 % b & aligned", "50 % a & 50 % b & aligned", "0 % a & 100 % b & aligned",
    ]  # fmt: skip


def test_pictures_of_an_interpolation_are_drawn_alone(network):
    series = Objective.interpolation(neuron(network, 3), neuron(network, 5), images=3)
    assert series.group_size == 1
    together = maco_batch(series, **SHORT)
    alone = maco_batch(series, batch_size=1, **SHORT)
    torch.testing.assert_close(together.images, alone.images, rtol=0, atol=2e-4)
    # An end has the weight 1 there, and 0 of the other one changes nothing but rounding.
    name = together.names[0]
    end, _ = maco(neuron(network, 3, names=name), **SHORT)
    torch.testing.assert_close(together.images[0], end, rtol=0, atol=2e-4)


def test_interpolations_are_terms_like_others(network, images):
    series = Objective.interpolation(neuron(network, 3), neuron(network, 5), images=2)
    total = 3.0 * series - channel(network, [0, 1])
    assert len(total.combination_names) == 4
    shown = images[:4]
    expected = [
        3.0 * scores(neuron(network, unit), shown[place][None])
        - scores(channel(network, index), shown[place][None])
        for place, (unit, index) in enumerate([(3, 0), (3, 1), (5, 0), (5, 1)])
    ]
    np.testing.assert_allclose(scores(total, shown), np.concatenate(expected), rtol=1e-5)


def test_a_path_is_an_interpolation_with_an_alignment(network, images):
    first, last = neuron(network, 3), neuron(network, 5)
    path = Objective.path(first, last, "3", images=5, alignment=0.3, decay_ratio=3.0)
    assert path.group_size == 5
    aligned = Objective.alignment(network, "3", 5, decay_ratio=3.0, input_shape=INPUT)
    expected = scores(Objective.interpolation(first, last, 5), images) + 0.3 * scores(
        aligned, images
    )
    np.testing.assert_allclose(scores(path, images), expected, rtol=1e-5, atol=1e-7)


def test_neighbors_on_a_path_are_alike(network):
    """Closer than the ends, and closer than they are without a path."""
    steps = {**SHORT, "nb_steps": 24}
    first, last = neuron(network, 3), neuron(network, 5)
    path = maco_batch(Objective.path(first, last, "3", images=4, alignment=1.0), **steps).images
    loose = maco_batch(Objective.interpolation(first, last, images=4), **steps).images

    def apart(images, distance):
        return float((images[distance:] - images[:-distance]).square().mean())

    assert apart(path, 1) < 0.3 * apart(loose, 1)
    assert apart(path, 1) < apart(path, 3)
    images, _ = optimize(
        Objective.path(first, last, "3"), nb_steps=2, custom_shape=32, progress=False
    )
    assert len(images[-1]) == 5


def test_captured_passes_turn_to_other_weights_and_targets(network):
    graphs = FrozenReplay()
    store = graphs_by(graphs)
    settings = MacoSettings(**{**STEPS, "nb_steps": 9})

    def series(network, unit):
        return Objective.path(neuron(network, unit), neuron(network, 9), "3", images=3)

    for unit in (3, 5):
        captured = drawn_with(store, series(network, unit), settings)
        expected = drawn_with(FormStore(), series(copy.deepcopy(network), unit), settings)
        assert all(map(torch.equal, captured, expected))
    assert graphs.captures == 1


def test_one_scorer_serves_all_weights_of_a_series(network, images):
    series = Objective.interpolation(neuron(network, 3), neuron(network, 5), images=5)
    scorers = [series.scorer([place]) for place in range(5)]
    assert len({scorer.kind for scorer in scorers}) == 1
    with torch.no_grad():
        outputs = series.compile()[0](images)
        expected = [scorer(outputs) for scorer in scorers]
        for place in (4, 2):
            scorers[0].turn_to(scorers[place])
            assert torch.equal(scorers[0](outputs), expected[place])
    with_function, _ = ends(network)["functions"]
    assert Objective.interpolation(with_function, neuron(network, 5)).scorer([0]).kind is None
    assert Objective.interpolation(with_function, neuron(network, 5)).runs_user_code


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda a, _: Objective.interpolation(a, "b"), TypeError, "last must be an Objective, got"),
        (
            lambda _, b: Objective.interpolation(5, b),
            TypeError,
            "first must be an Objective, got i",
        ),
        (lambda a, b: Objective.interpolation(a, b, 1), ValueError, "images must be at least 2"),
        (lambda a, b: Objective.interpolation(a, b, "5"), TypeError, "images must be an integer"),
        (lambda a, b: Objective.path(a, b, "33"), ValueError, "Closest names: 3"),
        (lambda a, b: Objective.path(a, b, "3", alignment="1"), TypeError, "must be a number"),
        (lambda a, b: Objective.path(a, b, "3", decay_ratio=-1), ValueError, "must be positive"),
    ],
)
def test_mistakes_are_explained(network, make, error, message):
    with pytest.raises(error, match=message):
        make(neuron(network, 3), neuron(network, 5))


def test_other_mistakes_are_explained(network):
    several = neuron(network, [3, 4])
    with pytest.raises(ValueError, match="first must have one combination, got 2"):
        Objective.interpolation(several, neuron(network, 5))
    other = copy.deepcopy(network)
    with pytest.raises(ValueError, match="same model"):
        Objective.interpolation(neuron(network, 3), neuron(other, 5))
    function = Objective.from_callable(None, lambda x: x.mean(), input_shape=INPUT)
    with pytest.raises(ValueError, match="the objectives have no model"):
        Objective.path(function, function, "3")
