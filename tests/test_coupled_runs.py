"""Runs of pictures that are scored together."""

import copy
import itertools

import pytest
import torch
from coupled import (
    INPUT,
    SHORT,
    STEPS,
    alignment,
    channels,
    diversity,
    scores,
)
from engine.test_kept_forms import FrozenReplay
from engine.test_passes import Limited
from injected_runs import InjectedSettings, drawn_with, graphs_by
from selection import thorough
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.evaluation.metrics import mean_score
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.run import Run


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


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (diversity, MacoSettings),
        (alignment, OptimizeSettings),
        thorough(diversity, OptimizeSettings),
        thorough(alignment, MacoSettings),
    ],
)
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


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "auto"])
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
