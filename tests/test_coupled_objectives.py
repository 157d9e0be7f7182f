"""Pictures that are scored together: diversity and alignment, alone and in runs."""

import copy
import itertools

import numpy as np
import pytest
import torch
from engine.test_kept_forms import FrozenReplay
from engine.test_passes import Limited
from injected_runs import InjectedSettings, drawn_with, graphs_by
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.evaluation.metrics import mean_score
from fvfast.objectives.coupled_scores import AlignmentScore, CoupledScore, DiversityScore
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.run import Run

INPUT = (3, 20, 20)
STEPS = {"nb_steps": 4, "nb_crops": 3, "box_size": 0.9, "custom_shape": (32, 32)}
SHORT = {**STEPS, "progress": False}


def channels(network, ids=5, **settings):
    return Objective.channel(network, "3", ids, input_shape=INPUT, **settings)


def diversity(network, images=3, **settings):
    return Objective.diversity(network, "3", images, input_shape=INPUT, **settings)


def alignment(network, images=3, **settings):
    return Objective.alignment(network, "3", images, input_shape=INPUT, **settings)


def scores(objective, images):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(images))


def layer_of(network, images, count):
    """What layer 3 puts out for each of some images: (count, K, C, H, W), in float64."""
    with torch.no_grad():
        return network[:4](images).double().unflatten(0, (count, -1)).numpy()


def diversity_by_hand(values):
    """From activations (M, K, C, H, W) to scores (M,), picture by picture."""
    grams = []
    for picture in values:
        rows = picture.transpose(1, 0, 2, 3).reshape(picture.shape[1], -1)
        grams.append(rows @ rows.T)
    found = []
    for index, gram in enumerate(grams):
        others = grams[:index] + grams[index + 1 :]
        cosines = [
            (gram * other).sum() / np.sqrt((gram**2).sum() * (other**2).sum()) for other in others
        ]
        found.append(1 - np.mean(cosines))
    return np.array(found)


def alignment_by_hand(values, ratio):
    """Each pair of pictures 1 to 4 apart, half of it for each of the two."""
    found = np.zeros(len(values))
    for first in range(len(values)):
        for last in range(first + 1, min(first + 5, len(values))):
            pair = ((values[first] - values[last]) ** 2).mean() / ratio ** (last - first)
            found[[first, last]] -= pair / 2
    return found


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
    "score", [DiversityScore(0), DiversityScore(2), AlignmentScore(2.0)], ids=repr
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


@pytest.mark.parametrize("score", [DiversityScore(0), AlignmentScore(2.0)], ids=repr)
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


def test_whole_groups_are_drawn_together(network):
    objective = channels(network, [5, 7, 9]) + diversity(network)
    batches = []

    def note(report):
        if report.step == 0:
            batches.append(report.names)

    names = objective.combination_names
    for batch_size, expected in ((3, [3, 3, 3]), (5, [3, 3, 3]), (7, [6, 3]), (None, [9])):
        batches.clear()
        maco_batch(objective, batch_size=batch_size, callback=note, **SHORT)
        assert [len(batch) for batch in batches] == expected
        assert list(itertools.chain(*batches)) == names
    with pytest.warns(UserWarning, match="batch_size=2 is less than the 3 images .* 3 are drawn"):
        maco_batch(objective, batch_size=2, **SHORT)
    # 40 crops of each of three images are more than the 64 of a batch.
    batches.clear()
    maco_batch(objective, callback=note, **{**SHORT, "nb_crops": 40, "nb_steps": 1})
    assert [len(batch) for batch in batches] == [3, 3, 3]


def test_a_group_is_the_same_with_other_groups(network):
    objective = channels(network, [5, 7]) + 2.0 * diversity(network)
    together = maco_batch(objective, **SHORT)
    alone = maco_batch(objective, batch_size=3, **SHORT)
    # Batches of another size round in another way.
    torch.testing.assert_close(together.images, alone.images, rtol=0, atol=2e-4)
    (own,) = (maco_batch(channels(network, 7) + 2.0 * diversity(network), **SHORT).images,)
    torch.testing.assert_close(own, alone.images[3:], rtol=0, atol=0)


def test_pictures_without_a_coupled_term_are_the_same_alone(network):
    objective = channels(network, [5, 7])
    together = maco_batch(objective, **SHORT).images
    for index, unit in enumerate((5, 7)):
        alone, _ = maco(channels(network, unit), **SHORT)
        torch.testing.assert_close(together[index], alone, rtol=0, atol=2e-4)


def test_diversity_pushes_pictures_apart(network):
    """At the end, against the same pictures that are drawn without it."""
    steps = {**SHORT, "nb_steps": 24}
    drawn = {
        weight: maco_batch(channels(network) + weight * diversity(network), **steps).images
        for weight in (0.0, 1.0)
    }
    found = {
        weight: float(scores(diversity(network), views_of(images)).mean())
        for weight, images in drawn.items()
    }
    assert found[1.0] > found[0.0] + 0.05


def test_alignment_keeps_pictures_alike(network):
    steps = {**SHORT, "nb_steps": 24}
    drawn = {
        weight: maco_batch(
            Objective.zipped(channels(network, [5, 7, 9]), alignment(network, multiplier=weight)),
            **steps,
        ).images
        for weight in (0.0, 1.0)
    }
    found = {
        weight: -float(scores(alignment(network), views_of(images)).mean())
        for weight, images in drawn.items()
    }
    assert found[1.0] < 0.5 * found[0.0]


def views_of(images):
    """The whole of each image, as the network takes it."""
    return nn.functional.interpolate(images, INPUT[1:], mode="area")


@pytest.mark.parametrize(
    ("make", "are_shared"), [(alignment, True), (diversity, False), (None, False)]
)
def test_aligned_pictures_start_alike_and_are_seen_through_the_same_views(
    network, make, are_shared
):
    """Boxes and noise are drawn for identities."""
    seen, starts = [], []

    def start(phases):
        starts.append(phases.state.detach().clone())
        return phases

    settings = InjectedSettings(**STEPS, start=start)
    make_crops = settings.views(INPUT, INPUT[1:]).crop

    def crop(images, boxes, size, *, identities, **rest):
        if len(images) > 1:
            seen.append(list(identities))
            assert torch.equal(boxes[0], boxes[1]) == are_shared
        return make_crops(images, boxes, size, identities=identities, **rest)

    settings = InjectedSettings(**STEPS, start=start, crops={"crop": crop})
    units = channels(network, [5, 7])
    objective = units if make is None else units + make(network, 2)
    drawn_with(FormStore(), objective, settings)
    assert seen
    for identities in seen:
        pairs = [identities[:2], identities[2:]] if make is not None else [identities]
        if len(identities) == 2 and make is not None:  # the group that a form is chosen with
            pairs = [identities]
        assert all((len(set(pair)) == 1) == are_shared for pair in pairs)
        assert len(set(identities)) == (len(pairs) if are_shared else len(identities))
    assert torch.equal(starts[0][0], starts[0][1]) == are_shared


@pytest.mark.parametrize("settings", [MacoSettings, OptimizeSettings])
@pytest.mark.parametrize("make", [diversity, alignment])
def test_runs_with_captured_passes_are_the_same(network, make, settings):
    graphs = FrozenReplay()
    store = graphs_by(graphs)
    given = {"nb_steps": 9, "custom_shape": (32, 32)}
    if settings is MacoSettings:
        given |= {"nb_crops": 3, "box_size": 0.9}
    for unit in (5, 7):
        captured = drawn_with(store, channels(network, unit) + make(network), settings(**given))
        own = copy.deepcopy(network)
        expected = drawn_with(FormStore(), channels(own, unit) + make(own), settings(**given))
        assert all(map(torch.equal, captured, expected))
    assert graphs.captures == 1


@pytest.mark.parametrize("precision", ["bfloat16", "auto"])
def test_other_precisions(network, precision):
    """16 bits change the pictures as little as those of a channel alone."""
    for objective in (channels(network, 5), channels(network, 5) + diversity(network)):
        exact, other = (maco_batch(objective, precision=one, **SHORT) for one in (None, precision))
        assert bool(other.images.isfinite().all())
        torch.testing.assert_close(other.scores, exact.scores, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("limit", [1, 4, 7])
def test_memory_for_a_part_of_a_group(network, limit):
    """Three pictures of six views: a group has 18."""
    part = Limited(100)
    model = nn.Sequential(*network)
    model.insert(3, part)
    model.eval()
    objective = Objective.channel(model, "4", [5, 7], input_shape=INPUT) + Objective.diversity(
        model, "4", 3, input_shape=INPUT
    )
    settings = {**SHORT, "nb_crops": 6}
    expected = maco_batch(objective, **settings)
    part.limit = limit
    part.sizes.clear()
    with pytest.warns(RuntimeWarning, match="out of memory with"):
        found = maco_batch(objective, **settings)
    assert max(part.sizes) <= limit
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)


def test_a_network_that_takes_one_view_at_a_time(network):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network[:4]

        def forward(self, x):
            return self.network(x.view(1, *INPUT))

    fixed = Fixed().eval()
    total = Objective.channel(fixed, "network.3", 5, names="5", input_shape=INPUT)
    total += Objective.diversity(fixed, "network.3", 3, input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="takes one image at a time"):
        found = maco_batch(total, **SHORT)
    expected = maco_batch(channels(network, names="5") + diversity(network), **SHORT)
    torch.testing.assert_close(found.scores[:, 0], expected.scores[:, 0], rtol=1e-3, atol=1e-4)


def test_pictures_of_a_group_end_together(network):
    """A score of one that is not a number is one of all: each depends on it."""

    def breaks(report):
        if report.step == 1:
            state["broken"] = True

    class Breaks(nn.Module):
        def forward(self, x):
            # A view of one picture of four, in the second group.
            is_bad = torch.arange(len(x)) == (7 if state["broken"] else -1)
            return x.masked_fill(is_bad[:, None, None, None], float("nan"))

    state = {"broken": False}
    model = nn.Sequential(*network[:4], Breaks()).eval()
    objective = Objective.channel(model, "4", [5, 7], input_shape=INPUT) + Objective.diversity(
        model, "4", 2, input_shape=INPUT
    )
    with pytest.warns(RuntimeWarning, match="not finite"):
        drawn = maco_batch(objective, callback=breaks, **SHORT)
    steps = drawn.scores.isfinite().sum(1).tolist()
    assert steps == [4, 4, 2, 2]
    assert bool(drawn.images.isfinite().all())


def test_optimize_draws_all_of_them(network):
    objective = channels(network, [5, 7]) + diversity(network)
    images, names = optimize(objective, nb_steps=3, custom_shape=32, progress=False)
    assert images[-1].shape == (6, 3, 32, 32)
    assert names == objective.combination_names


def test_one_picture_is_not_drawn_without_its_group(network):
    objective = channels(network) + diversity(network)
    with pytest.raises(ValueError, match="has 3 combinations"):
        maco(objective, **SHORT)
    with pytest.raises(ValueError, match=r"0, 1, 2 are scored together, but only some"):
        mean_score(torch.zeros(3, 3, 32, 32), objective)
    run = Run(objective, MacoSettings(**STEPS), progress=False)
    with pytest.raises(ValueError, match="scored together"):
        run.draw([0, 1])


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
