"""`fvfast.accentuate`, and pictures of `maco` and `optimize` that begin with a photograph."""

import gc
import os
import signal
import weakref

import numpy as np
import pytest
import torch
from engine.test_state import assert_same, fingerprint
from photographs import array_of, forms_of
from selection import thorough
from torch import nn

from fvfast import Objective, accentuate, maco, maco_batch, optimize
from fvfast.atlas.settings import planned_settings
from fvfast.ops.colors import decorrelate_colors
from fvfast.run.accentuate_settings import AccentuateSettings
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.spectrum.photograph import read_photograph

INPUT = (3, 20, 20)
RANGE = (-1.0, 2.0)
SHORT = {"nb_steps": 3, "custom_shape": (24, 36), "values_range": RANGE, "progress": False}
CROPS = {"nb_crops": 3, **SHORT}
HALF_A_LEVEL = (RANGE[1] - RANGE[0]) / 510
STILL = {"learning_rate": 0.0}
"""Nothing moves: what is returned is the start."""


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=INPUT)


@pytest.fixture
def photograph():
    return array_of()


@pytest.fixture
def image(photograph):
    return read_photograph(photograph, (3, 24, 36), RANGE, "test")


def test_the_first_image_is_the_photograph(tmp_path, objective, photograph, image):
    for name, form in forms_of(photograph, tmp_path, RANGE).items():
        first, _ = accentuate(objective, form, **CROPS, **STILL)
        assert (first - image).abs().max() < HALF_A_LEVEL + 1e-5, name


@pytest.mark.parametrize("shape", [(33, 47), (48, 25), thorough((64, 64))])
@pytest.mark.parametrize("decay", [0.0, 1.0, thorough(2.0), thorough(-0.5)])
def test_any_size_and_decay(objective, photograph, shape, decay):
    settings = {**CROPS, "custom_shape": shape, "decay": decay}
    expected = read_photograph(photograph, (3, *shape), RANGE, "test")
    first, _ = accentuate(objective, photograph, **settings, **STILL)
    assert (first - expected).abs().max() < HALF_A_LEVEL + 1e-4
    changed, transparency = accentuate(objective, photograph, **settings)
    assert changed.shape == transparency.shape == (3, *shape)
    assert not torch.equal(changed, first)
    assert transparency.sum() > 0
    assert RANGE[0] <= changed.min() < changed.max() <= RANGE[1]


def test_the_score_rises_and_the_penalty_holds_back(objective, photograph, image):
    scores, distances = {}, {}
    for penalty in (0.0, 0.1, 100.0):
        seen = []
        result = accentuate(
            objective, photograph, **{**CROPS, "nb_steps": 40}, penalty=penalty,
            noise_intensity=0.0, box_size=1.0,
            callback=lambda report, seen=seen: seen.append(report.scores.item()),
        )  # fmt: skip
        scores[penalty], distances[penalty] = seen, (result.image - image).square().mean().item()
    assert np.mean(scores[0.0][-5:]) > np.mean(scores[0.0][:5])
    assert distances[100.0] < 0.5 * distances[0.1] < 0.5 * distances[0.0]


def test_the_penalty_is_the_mean_square_of_parts_of_the_range(photograph, image):
    settings = AccentuateSettings(photograph=photograph, values_range=RANGE, penalty=5.0)
    (distance,) = settings.penalties
    images = torch.stack([image, image + 0.3, image.flip(1)])
    expected = 5 * ((images - image) / 3).square().mean((1, 2, 3))
    assert torch.allclose(distance(images), expected, atol=1e-6)
    assert distance(images)[0] == 0
    assert AccentuateSettings(photograph=photograph, penalty=0.0).penalties == ()


def test_the_transparency_is_without_the_penalty(objective, photograph):
    one_step = {**CROPS, "nb_steps": 1}
    _, with_penalty = accentuate(objective, photograph, **one_step, penalty=1000.0)
    _, without = accentuate(objective, photograph, **one_step, penalty=0.0)
    assert torch.equal(with_penalty, without)


def test_a_larger_decay_changes_lower_frequencies(objective, photograph, image):
    """Of what is changed, the part in the lowest eighth of the frequencies."""
    low = {}
    for decay in (0.0, 1.0, 2.0):
        changed, _ = accentuate(
            objective, photograph, **CROPS, decay=decay, learning_rate=1e-4, penalty=0.0
        )
        power = torch.fft.rfft2(changed - image).abs().square()
        frequencies = torch.hypot(torch.fft.fftfreq(24)[:, None], torch.fft.rfftfreq(36)[None])
        low[decay] = (power[:, frequencies < 1 / 16].sum() / power.sum()).item()
    assert low[0.0] < low[1.0] < low[2.0]


def test_the_distance_may_be_that_of_a_layer(network, objective, photograph):
    """As docs/accentuation.md has it: the network is called within the run."""
    features = network[:3]
    tensor = torch.from_numpy(photograph).permute(2, 0, 1)
    with torch.no_grad():
        first = features(tensor[None] / 255)

    def distance(images):
        return 100 * (features(images) - first).square().flatten(1).mean(1)

    settings = {**CROPS, "values_range": (0, 1), "custom_shape": photograph.shape[:2]}
    near, far = (
        accentuate(objective, tensor, penalty=0, regularizers=given, **{**settings, "nb_steps": 30})
        for given in (distance, None)
    )
    with torch.no_grad():
        assert distance(near.image[None]) < 0.5 * distance(far.image[None])


def test_presets(objective, photograph):
    strong = AccentuateSettings.with_preset(photograph=photograph, preset="strong")
    assert (strong.penalty, strong.nb_steps) == (0.0, 128)
    gentle = AccentuateSettings.with_preset(photograph=photograph)
    assert (gentle.penalty, gentle.nb_steps) == (10.0, 64)
    image, _ = accentuate(objective, photograph, **CROPS, preset="strong")
    expected, _ = accentuate(objective, photograph, **CROPS, penalty=0.0)
    assert torch.equal(image, expected)


def test_settings_are_described_without_the_photograph(photograph):
    described = AccentuateSettings(photograph=photograph, regularizers=[torch.sum]).described()
    assert described["regularizers"] == ["sum"]
    assert (described["penalty"], described["decay"]) == (10.0, 1.0)
    assert described["box_size"] == [0.9, 0.4]
    assert "photograph" not in described
    for settings in (MacoSettings(initial=photograph), OptimizeSettings(initial=photograph)):
        assert "initial" not in settings.described()


def test_same_seed_same_image(objective, photograph):
    first, second, other = (
        accentuate(objective, photograph, **CROPS, seed=seed).image for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_save_every_callback_and_precision(objective, photograph):
    steps = []

    def watch(report):
        steps.append(report.step)
        return len(steps) == 4

    images, transparencies = accentuate(
        objective, photograph, **{**CROPS, "nb_steps": 9}, save_every=2, callback=watch,
        precision="bfloat16", learning_rate=0.01, device="cpu",
    )  # fmt: skip
    assert steps == [0, 1, 2, 3]
    assert images.shape == transparencies.shape == (2, 3, 24, 36)


def test_the_model_comes_back_and_nothing_is_kept(network, objective, photograph):
    before = fingerprint(network)
    accentuate(objective, photograph, **CROPS)
    assert_same(fingerprint(network), before)

    def penalty(images):
        return images.square().mean((1, 2, 3))

    gone = weakref.ref(penalty)
    accentuate(objective, photograph, **CROPS, regularizers=penalty)
    del penalty
    gc.collect()
    assert gone() is None


def test_an_interrupt_keeps_the_result(objective, photograph):
    def press(report):
        if report.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 9 steps"):
        result = accentuate(objective, photograph, **{**CROPS, "nb_steps": 9}, callback=press)
    assert result.interrupted


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"penalty": -1.0}, ValueError, "penalty must not be negative, got -1"),
        ({"penalty": "1"}, TypeError, "penalty must be a number"),
        ({"penalty": float("inf")}, ValueError, "penalty must be finite"),
        ({"decay": None}, TypeError, "decay must be a number"),
        ({"decay": float("nan")}, ValueError, "decay must be finite"),
        ({"photograph": 3}, TypeError, "accentuate: the photograph must be the path"),
        ({"photograph": "missing.png"}, FileNotFoundError, "missing"),
        ({"preset": "xplique"}, ValueError, r"preset must be one of \['gentle', 'strong'\]"),
        ({"lr": 1}, TypeError, "It is called learning_rate here"),
        ({"save_every": 0}, ValueError, "save_every must be at least 1"),
    ],
)
def test_wrong_arguments(objective, photograph, settings, error, message):
    given = {"photograph": photograph, **CROPS, **settings}
    with pytest.raises(error, match=message):
        accentuate(objective, given.pop("photograph"), **given)


def test_several_combinations(network, photograph):
    objective = Objective.neuron(network, "7", [0, 1], input_shape=INPUT)
    with pytest.raises(ValueError, match=r"2 combinations .* call accentuate for each"):
        accentuate(objective, photograph, **CROPS)


def test_maco_begins_with_the_phases_of_the_photograph(objective, photograph, image):
    first, _ = maco(objective, initial=photograph, **CROPS, **STILL)

    def spectrum(values):
        shares = ((values - RANGE[0]) / 3).clamp(1 / 510, 1 - 1 / 510).double()
        return torch.fft.rfft2(decorrelate_colors(shares.logit()))

    ours, theirs = spectrum(first), spectrum(image)
    # Lone entries of the transform of a real image are real: their phase is 0 or pi.
    strong = (ours.abs() > 0.02 * ours.abs().mean()) & (theirs.abs() > 1e-3)
    cosine = (ours * theirs.conj()).real / (ours.abs() * theirs.abs())
    assert strong.float().mean() > 0.7
    assert cosine[strong].median() > 0.999
    random, _ = maco(objective, **CROPS, **STILL)
    others = spectrum(random)
    cosine = (others * theirs.conj()).real / (others.abs() * theirs.abs())
    assert cosine[strong].median() < 0.5


def test_maco_goes_up_from_a_photograph(network, photograph):
    objective = Objective.neuron(network, "7", [2, 3], input_shape=INPUT)
    settings = {**CROPS, "nb_steps": 40, "noise_intensity": 0.0, "learning_rate": 0.05}
    batch = maco_batch(objective, initial=photograph, **settings)
    assert (batch.scores[:, -5:].mean(1) > batch.scores[:, :5].mean(1)).all()
    alone = maco(
        Objective.neuron(network, "7", 3, input_shape=INPUT), initial=photograph, **settings
    )
    assert torch.allclose(alone.image, batch.images[1], atol=0.02)
    assert batch.transparencies.sum() > 0


@pytest.mark.parametrize("use_fft", [True, False])
@pytest.mark.parametrize("image_normalizer", ["sigmoid", "clip"])
def test_optimize_begins_with_the_photograph(
    objective, photograph, image, use_fft, image_normalizer
):
    """Stretched to the whole range, as every image of `optimize`; this one has it all."""
    still = {"optimizer": lambda tensors: torch.optim.SGD(tensors, lr=0.0)}
    images, _ = optimize(
        objective, initial=photograph, use_fft=use_fft, image_normalizer=image_normalizer,
        **SHORT, **still,
    )  # fmt: skip
    assert (images[-1][0] - image).abs().max() < 3 * HALF_A_LEVEL
    moved, _ = optimize(
        objective, initial=photograph, use_fft=use_fft, image_normalizer=image_normalizer, **SHORT
    )
    assert (moved[-1][0] - image).abs().max() > 3 * HALF_A_LEVEL


def test_starts_that_cannot_be(objective, photograph):
    with pytest.raises(ValueError, match=r"initial needs the image_normalizer 'sigmoid' or 'clip'"):
        optimize(objective, initial=photograph, image_normalizer=torch.tanh, **SHORT)
    for function in (maco, optimize):
        with pytest.raises(TypeError, match=f"{function.__name__}: the photograph must be"):
            function(objective, initial=3, **SHORT)
    for initial in (photograph, torch.rand(3, 8, 8), "photo.png"):
        with pytest.raises(ValueError, match="cannot be written into the plan of an atlas"):
            planned_settings({"initial": initial}, RANGE, (20, 20))


@pytest.mark.parametrize("function", [maco, optimize])
def test_without_a_start_nothing_changes(objective, function):
    first = function(objective, **SHORT)[0]
    second = function(objective, initial=None, **SHORT)[0]
    assert torch.equal(first[0], second[0])


def test_gray_networks(photograph):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU()).eval()
    objective = Objective.channel(model, 0, 1, input_shape=(1, 16, 16))
    gray = photograph.mean(-1).astype(np.uint8)
    expected = read_photograph(gray, (1, 24, 36), RANGE, "test")
    first, _ = accentuate(objective, gray, **CROPS, **STILL)
    assert (first - expected).abs().max() < HALF_A_LEVEL + 1e-5
    assert maco(objective, initial=gray, **CROPS).image.shape == (1, 24, 36)
    assert optimize(objective, initial=gray, **SHORT)[0][0].shape == (1, 1, 24, 36)
