"""Objectives that photographs set: inversion and caricature."""

import copy

import numpy as np
import pytest
import torch
from engine.test_kept_forms import FrozenReplay
from engine.test_state import assert_same, fingerprint
from injected_runs import drawn_with, graphs_by
from photographed import (
    INPUT,
    MAKERS,
    WHOLE,
    as_image,
    caricature,
    inversion,
    layer_of,
    pixels,
    scores,
)
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.objectives.photograph_scores import CaricatureScore, InversionScore
from fvfast.run.maco_settings import MacoSettings


@pytest.fixture
def images():
    return torch.randn(6, *INPUT, generator=torch.Generator().manual_seed(1))


# Sums of 1,024 float32 products; measured: 3e-7.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def test_inversion_by_hand(network, images):
    """Two photographs, three views of a picture for each."""
    photographs = [pixels(seed, (20, 20)) for seed in range(2)]
    targets = layer_of(network, torch.stack([as_image(one) for one in photographs]))
    values = layer_of(network, images).reshape(2, 3, 16, 8, 8)
    distances = ((values - targets[:, None]) ** 2).sum((2, 3, 4))
    expected = -(distances / (targets**2).sum((1, 2, 3))[:, None]).mean(1)
    np.testing.assert_allclose(scores(inversion(network, photographs), images), expected, **CLOSE)


@pytest.mark.parametrize("power", [1.0, 0.0, 2.5])
def test_caricature_by_hand(network, images, power):
    photographs = [pixels(seed, (20, 20)) for seed in range(2)]
    targets = layer_of(network, torch.stack([as_image(one) for one in photographs]))
    values = layer_of(network, images).reshape(2, 3, 16, 8, 8)
    dots = (values * targets[:, None]).sum(2)
    norms = np.linalg.norm(values, axis=2) * np.linalg.norm(targets[:, None], axis=2)
    cosines = np.maximum(dots / norms, 0.1)
    expected = (dots * cosines**power).mean((1, 2, 3))
    found = scores(caricature(network, photographs, cossim_pow=power), images)
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert (cosines == 0.1).any()
    assert (cosines > 0.1).any()


def test_the_photograph_itself_is_the_best_inversion(network):
    photograph = pixels(size=(20, 20))
    objective = inversion(network, photograph)
    assert abs(float(scores(objective, as_image(photograph)[None])[0])) < 1e-6


@pytest.mark.parametrize(
    "score",
    [InversionScore(None), CaricatureScore(None, 0, 1.5), CaricatureScore(None, 2, 1.0)],
    ids=["inversion", "caricature", "caricature, channels last"],
)
def test_gradients(score):
    generator = torch.Generator().manual_seed(0)
    values, targets = (
        torch.randn(2, views, 3, 2, 4, generator=generator, dtype=torch.float64) for views in (3, 1)
    )
    assert torch.autograd.gradcheck(
        lambda values: score.compare(values, targets), values.requires_grad_()
    )


def test_channels_last_and_no_positions():
    """The cosine is that of the channels, wherever these are."""
    generator = torch.Generator().manual_seed(0)
    values, targets = torch.randn(2, 3, 5, 4, 4, generator=generator).split([2, 1], dim=1)
    first, last = CaricatureScore(None, 0, 1.0), CaricatureScore(None, 2, 1.0)
    expected = first.compare(values, targets)
    moved = last.compare(values.movedim(2, 4), targets.movedim(2, 4))
    assert torch.allclose(moved, expected, rtol=1e-5)
    flat = first.compare(values[..., 0, 0], targets[..., 0, 0])
    assert torch.allclose(flat, first.compare(values[..., :1, :1], targets[..., :1, :1]))


def test_preprocess_comes_before_the_network(network, images):
    photograph = pixels(size=(20, 20))
    halved = inversion(network, photograph, preprocess=lambda x: x / 2)
    plain = inversion(network, as_image(photograph) / 2)
    np.testing.assert_allclose(scores(halved, images), scores(plain, images / 2), rtol=1e-5)


@pytest.mark.parametrize("make", [inversion, caricature])
def test_the_network_comes_back_as_it_was(network, make):
    network.train()
    before = fingerprint(network)
    with pytest.warns(UserWarning, match="training mode"):
        objective = make(network, pixels())
    assert_same(fingerprint(network), before)
    network.eval()
    expected = make(network, pixels())
    assert torch.equal(objective.masks[0][0], expected.masks[0][0])
    assert not objective.masks[0][0].requires_grad


def test_a_network_that_draws(network):
    """It draws the same for each photograph, and nothing from the user's generators."""

    class Dropping(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, training=True)

    model = nn.Sequential(Dropping(), *network).eval()
    before = torch.random.get_rng_state()
    first, second = (
        Objective.inversion(model, "4", [pixels(), pixels()], input_shape=INPUT).masks[0]
        for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], second[0])


@pytest.mark.parametrize("make", [inversion, caricature])
def test_within_inference_mode(network, make):
    """Its tensors could take no part in gradients."""
    with torch.inference_mode():
        objective = make(network, pixels())
    drawn, _ = maco(objective, **WHOLE)
    assert torch.equal(drawn, maco(make(network, pixels()), **WHOLE)[0])


def test_pictures_come_close_to_the_photograph(network):
    steps = {**WHOLE, "nb_steps": 40}
    drawn = maco_batch(inversion(network, pixels()), **steps)
    # The photograph is noise, of which little is in natural magnitudes; measured: a half.
    assert float(drawn.scores[0, -1]) > 0.65 * float(drawn.scores[0, 0])


@pytest.mark.parametrize("make", [inversion, caricature])
def test_runs(network, make):
    """Of several photographs, each is as it is alone; in sums; with `optimize`; in 16 bits."""
    photographs = [pixels(0), pixels(1)]
    together = maco_batch(make(network, photographs), **WHOLE)
    for index, photograph in enumerate(photographs):
        name = together.names[index]
        alone, _ = maco(make(network, photograph, names=name), **WHOLE)
        torch.testing.assert_close(together.images[index], alone, rtol=0, atol=2e-4)
    total = make(network, photographs) + Objective.channel(network, "3", 5, input_shape=INPUT)
    assert len(maco_batch(2.0 * total, precision="bfloat16", **WHOLE).images) == 2
    images, _ = optimize(
        make(network, photographs, values_range=(0, 1)),
        nb_steps=3, custom_shape=32, transformations="lucid", progress=False,
    )  # fmt: skip
    assert bool(images[-1].isfinite().all())


@pytest.mark.parametrize("make", [inversion, caricature])
def test_captured_passes_turn_to_other_photographs(network, make):
    graphs = FrozenReplay()
    store = graphs_by(graphs)
    given = MacoSettings(nb_steps=9, nb_crops=0, custom_shape=(32, 32))
    for seed in range(3):
        captured = drawn_with(store, make(network, pixels(seed)), given)
        own = copy.deepcopy(network)
        assert all(
            map(torch.equal, captured, drawn_with(FormStore(), make(own, pixels(seed)), given))
        )
    assert graphs.captures == 1


def test_kinds(network):
    kinds = [
        objective.scorer([0]).kind
        for objective in (
            inversion(network, pixels(0)),
            inversion(network, pixels(1)),
            caricature(network, pixels(0)),
            caricature(network, pixels(0), cossim_pow=2.0),
            caricature(network, pixels(0), channel_axis=1),
        )
    ]
    assert kinds[0] == kinds[1] is not None
    assert len(set(kinds)) == 4


@pytest.mark.parametrize("make", [inversion, caricature])
def test_small_crops_are_warned_of(network, make, recwarn):
    crops = {**WHOLE, "nb_crops": 2, "nb_steps": 1}
    objective = make(network, pixels()) * 2
    with pytest.warns(UserWarning, match="position by position, but the network is shown crops of"):
        maco(objective, **crops)
    with pytest.warns(UserWarning, match="crops of 30% of the picture. Use nb_crops=0"):
        maco(objective, box_size=0.3, **crops)
    recwarn.clear()
    maco(objective, box_size=0.9, **crops)
    maco(objective, **WHOLE)
    maco(Objective.channel(network, "3", 1, input_shape=INPUT), box_size=0.9, **crops)
    assert not [one for one in recwarn if "position by position" in str(one.message)]


def test_large_shifts_are_warned_of(network, recwarn):
    objective = inversion(network, pixels(), values_range=(0, 1))
    steps = {"nb_steps": 1, "custom_shape": 32, "progress": False}
    with pytest.warns(UserWarning, match="position by position, but the standard transformations"):
        optimize(objective, **steps)
    recwarn.clear()
    for others in ("lucid", None, lambda images: images):
        optimize(objective, transformations=others, **steps)
    assert not [one for one in recwarn if "position by position" in str(one.message)]


def test_the_run_has_the_range_of_the_photograph(network):
    objective = inversion(network, pixels())
    message = r"values_range=\(0, 1\), but the photograph of the objective was shown .* \(-1, 1\)"
    with pytest.raises(ValueError, match=message):
        maco(objective, values_range=(0, 1), **WHOLE)
    with pytest.raises(ValueError, match=message):
        optimize(objective, nb_steps=1, progress=False)
    both = objective + caricature(network, pixels(), values_range=(0, 1))
    with pytest.raises(ValueError, match="was shown to the network in"):
        maco(both, **WHOLE)


@pytest.mark.parametrize("name", MAKERS)
def test_other_mistakes(network, name):
    make = MAKERS[name]
    with pytest.raises(ValueError, match="Closest names: 3"):
        make(network, "33", pixels(), input_shape=INPUT)
    with pytest.raises(ValueError, match="two finite numbers"):
        make(network, "3", pixels(), values_range=(1, 1), input_shape=INPUT)
    with pytest.raises(ValueError, match="one name per target"):
        make(network, "3", pixels(), names=["a", "b"], input_shape=INPUT)
    with pytest.raises(TypeError, match=f"Objective.{name}: multiplier must be a number"):
        make(network, "3", pixels(), multiplier="2", input_shape=INPUT)
    with pytest.raises(TypeError, match="cossim_pow must be a number"):
        caricature(network, pixels(), cossim_pow="2")
    with pytest.raises(ValueError, match="channel_axis of an output"):
        caricature(network, pixels(), channel_axis=3)


@pytest.mark.parametrize("name", MAKERS)
def test_layers_that_say_nothing_of_a_photograph(name):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval()
    nn.init.constant_(model[0].bias, -100.0)
    with pytest.raises(ValueError, match="nothing but zeros for the photograph 0"):
        MAKERS[name](model, "1", pixels(), input_shape=INPUT)
    nn.init.constant_(model[0].bias, float("inf"))
    with pytest.raises(ValueError, match="not finite for photograph 0"):
        MAKERS[name](model, "1", pixels(), input_shape=INPUT)
