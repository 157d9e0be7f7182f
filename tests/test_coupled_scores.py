"""Diversity and alignment, against their definitions; and other scores of several images."""

import numpy as np
import pytest
import torch
from coupled import (
    INPUT,
    SHORT,
    alignment,
    alignment_by_hand,
    channels,
    diversity,
    diversity_by_hand,
    layer_of,
    scores,
)

from fvfast import Objective, maco_batch
from fvfast.objectives.coupled_scores import AlignmentScore, CoupledScore, DiversityScore


@pytest.fixture
def images():
    return torch.randn(12, *INPUT, generator=torch.Generator().manual_seed(1))


# Sums of up to 2,000 float32 products, and quotients of them; measured: 4e-7.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_diversity_by_hand(network, images, count):
    expected = diversity_by_hand(layer_of(network, images, count))
    found = scores(diversity(network, count), images)
    np.testing.assert_allclose(found.numpy(), expected, **CLOSE)
    assert expected.min() > 0


@pytest.mark.parametrize("ratio", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_alignment_by_hand(network, images, count, ratio):
    expected = alignment_by_hand(layer_of(network, images, count), ratio)
    found = scores(alignment(network, count, decay_ratio=ratio), images)
    np.testing.assert_allclose(found.numpy(), expected, **CLOSE)


@pytest.mark.parametrize(
    "score",
    [DiversityScore(0), DiversityScore(2), AlignmentScore(2.0)],
    ids=["diversity", "diversity-last", "alignment"],
)
def test_gradients_of_groups(score):
    """Of each score by all pictures of its group, and by none of another group."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 2, 4, 3, 2)  # G, M, K, and a layer's output
    values = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(score.score_groups, values)
    (gradient,) = torch.autograd.grad(score.score_groups(values)[0, 1], values)
    assert bool(gradient[0].flatten(1).any(1).all())
    assert not bool(gradient[1].any())


@pytest.mark.parametrize(
    "score", [DiversityScore(0), AlignmentScore(2.0)], ids=["diversity", "alignment"]
)
def test_layers_without_positions(score):
    values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        score.score_groups(values), score.score_groups(values[..., None, None]), **CLOSE
    )


def test_diversity_of_pictures_that_are_the_same_or_nothing():
    score = DiversityScore(0)
    values = torch.randn(1, 1, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    same = values.expand(1, 3, -1, -1, -1, -1)
    assert torch.allclose(score.score_groups(same), torch.zeros(1, 3), atol=1e-6)
    nothing = torch.zeros(1, 3, 2, 4, 3, 3, requires_grad=True)
    found = score.score_groups(nothing)
    assert torch.equal(found, torch.ones(1, 3))
    (gradient,) = torch.autograd.grad(found.sum(), nothing)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_diversity_does_not_depend_on_the_size_of_activations(scale):
    """Fourth powers of these leave the range of float32."""
    values = torch.randn(1, 3, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    score = DiversityScore(0)
    assert torch.allclose(score.score_groups(values * scale), score.score_groups(values), **CLOSE)


@pytest.mark.parametrize("make", [diversity, alignment])
def test_autocast_does_not_round_the_scores(network, images, make):
    """The outputs have 16 bits then, but not what is computed from them."""
    _, function, _, _ = make(network).compile()
    output = network[:4](images).detach().bfloat16()
    expected = function([output])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function([output]), expected)


@pytest.mark.parametrize("order", ["unit first", "unit last"])
def test_each_group_is_scored_on_its_own(network, images, order):
    """Two units, three pictures of each, with two views."""
    unit, apart = channels(network, [5, 7]), 2.0 * diversity(network)
    total = unit + apart if order == "unit first" else apart + unit
    assert total.group_size == 3
    names = total.combination_names
    assert [name.count("Channel#3_5") for name in names] == [1, 1, 1, 0, 0, 0]
    values = layer_of(network, images, 6)
    mean = values[[0, 1, 2], :, 5].mean((1, 2, 3)), values[[3, 4, 5], :, 7].mean((1, 2, 3))
    expected = np.concatenate(mean) / 16 + 2 * np.concatenate(
        [diversity_by_hand(values[:3]), diversity_by_hand(values[3:])]
    )
    np.testing.assert_allclose(scores(total, images).numpy(), expected, **CLOSE)


def test_two_coupled_terms(network, images):
    """The pictures of one term's group differ in nothing but its own target."""
    total = diversity(network, 2) + 3.0 * alignment(network, 3)
    assert total.group_size == 6
    values = layer_of(network, images, 6).reshape(2, 3, 2, 16, 8, 8)
    apart = np.stack([diversity_by_hand(values[:, place]) for place in range(3)], axis=1)
    near = np.stack([alignment_by_hand(values[place], 2.0) for place in range(2)])
    expected = (apart + 3 * near).reshape(6)
    np.testing.assert_allclose(scores(total, images).numpy(), expected, **CLOSE)


def test_zipped_objectives(network, images):
    units = [1, 5, 7]
    total = Objective.zipped(channels(network, units), alignment(network))
    assert total.combination_names == [
        f"Channel#3_{unit} & {i + 1}" for i, unit in enumerate(units)
    ]
    values = layer_of(network, images, 3)
    expected = alignment_by_hand(values, 2.0) + [
        values[index, :, unit].mean() / 16 for index, unit in enumerate(units)
    ]
    np.testing.assert_allclose(scores(total, images).numpy(), expected, **CLOSE)


def test_a_score_of_ones_own(network, images):
    """The constructor takes any `CoupledScore`."""

    class AwayFromTheMean(CoupledScore):
        settings = None

        def score_groups(self, values):
            means = values.flatten(2).mean(2)
            return (means - means.mean(1, keepdim=True)).abs()

    own = Objective(
        network, ["3"], [[2, 0, 1]], [AwayFromTheMean()], [1.0], [["c", "a", "b"]],
        input_shape=INPUT,
    )  # fmt: skip
    assert own.group_size == 3
    means = layer_of(network, images, 3).mean((1, 2, 3, 4))
    np.testing.assert_allclose(scores(own, images).numpy(), abs(means - means.mean()), **CLOSE)
    assert len(maco_batch(own, **SHORT).images) == 3


def test_targets_say_the_place_in_the_group(network, images):
    """Of a series of four, the first and the last are three apart, wherever they stand."""
    order = [3, 1, 0, 2]
    own = Objective(
        network, ["3"], [order], [AlignmentScore(2.0)], [1.0], [list("dbac")], input_shape=INPUT
    )
    values = layer_of(network, images, 4)
    expected = alignment_by_hand(values[np.argsort(order)], 2.0)[order]
    np.testing.assert_allclose(scores(own, images).numpy(), expected, **CLOSE)


def test_kinds(network):
    """Passes are captured again where groups, weights or layers are others."""

    def kind(objective):
        return objective.scorer(range(len(objective.combination_names))).kind

    assert kind(channels(network, 5) + diversity(network)) == kind(
        channels(network, 7) + diversity(network)
    )
    different = [
        diversity(network),
        diversity(network, 4),
        2.0 * diversity(network),
        diversity(network, channel_axis=1),
        alignment(network),
        alignment(network, decay_ratio=3.0),
        alignment(network, 4),
    ]
    assert None not in map(kind, different)
    assert len(set(map(kind, different))) == len(different)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: diversity(m, 1), ValueError, "images must be at least 2, got 1"),
        (lambda m: diversity(m, 2.5), TypeError, "images must be an integer, got 2.5"),
        (lambda m: diversity(m, 3, names=["a", "b"]), ValueError, "one name per target: 3 targets"),
        (lambda m: diversity(m, channel_axis=3), ValueError, "channel_axis of an output"),
        (lambda m: diversity(m, multiplier="2"), TypeError, r"Objective.diversity: multiplier"),
        (lambda m: alignment(m, 1), ValueError, "images must be at least 2, got 1"),
        (lambda m: alignment(m, decay_ratio=0), ValueError, "decay_ratio must be positive, got 0"),
        (lambda m: alignment(m, decay_ratio="2x"), TypeError, "decay_ratio must be a number"),
        (lambda m: alignment(m, decay_ratio=float("inf")), ValueError, "decay_ratio must be fin"),
        (lambda _: Objective.zipped(), ValueError, "at least one objective, got none"),
        (lambda m: Objective.zipped(diversity(m), "x"), TypeError, "takes objectives, got str"),
        (
            lambda m: Objective.zipped(diversity(m), channels(m)),
            ValueError,
            "equally many combinations can be zipped; got 3 and 1",
        ),
    ],
)
def test_mistakes_are_explained(network, make, error, message):
    with pytest.raises(error, match=message):
        make(network)
