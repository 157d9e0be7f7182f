"""Objectives that photographs set: inversion and caricature."""

import copy

import numpy as np
import pytest
import torch
from engine.test_kept_forms import FrozenReplay
from engine.test_state import assert_same, fingerprint
from injected_runs import drawn_with, graphs_by
from PIL import Image
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.objectives.photograph_scores import CaricatureScore, InversionScore
from fvfast.run.maco_settings import MacoSettings
from fvfast.transformations.reduction import resize_whole

INPUT = (3, 20, 20)
WHOLE = {"nb_steps": 4, "nb_crops": 0, "custom_shape": (32, 32), "progress": False}
MAKERS = {"inversion": Objective.inversion, "caricature": Objective.caricature}


def pixels(seed=0, size=(30, 40), channels=3):
    """Bytes (H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def as_image(pixels):
    """What the network is shown of bytes (20, 20, C) in (-1, 1): (C, H, W)."""
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def inversion(network, photograph, **settings):
    return Objective.inversion(network, "3", photograph, input_shape=INPUT, **settings)


def caricature(network, photograph, **settings):
    return Objective.caricature(network, "3", photograph, input_shape=INPUT, **settings)


def scores(objective, images):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(images)).numpy()


def layer_of(network, images):
    with torch.no_grad():
        return network[:4](images).double().numpy()


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


def test_ways_to_give_a_photograph(network, images, tmp_path):
    """The same photograph, in all of them; 40 x 30 pixels are cropped to a square."""
    bytes_ = pixels()
    path = tmp_path / "sea.png"
    Image.fromarray(bytes_).save(path)
    tensor = torch.from_numpy(bytes_).permute(2, 0, 1).contiguous()
    same = [
        bytes_, path, str(path), Image.fromarray(bytes_), tensor,
        [bytes_], (path,), tensor[None], Image.fromarray(bytes_).convert("RGBA"),
        np.asfortranarray(bytes_),
    ]  # fmt: skip
    expected = scores(inversion(network, bytes_), images)
    for one in same:
        np.testing.assert_array_equal(scores(inversion(network, one), images), expected)


def test_names_of_photographs(network, tmp_path):
    path = tmp_path / "sea.png"
    Image.fromarray(pixels()).save(path)
    assert inversion(network, [pixels(), path]).combination_names == [
        "Inversion#3_0",
        "Inversion#3_sea",
    ]
    assert caricature(network, path).combination_names == ["Caricature#3_sea"]
    assert caricature(network, path, names="sea").combination_names == ["sea"]


def test_floats_are_what_the_network_takes(network, images):
    photograph = pixels(size=(20, 20))
    expected = scores(inversion(network, photograph), images)
    image = as_image(photograph)
    for same in (image, image.numpy(), image.double(), [image], image[None]):
        np.testing.assert_allclose(scores(inversion(network, same), images), expected, rtol=1e-6)
    # Larger ones are cropped around their center and resized.
    generator = torch.Generator().manual_seed(2)
    large = torch.rand(3, 40, 60, generator=generator)
    center = resize_whole(large[None, :, :, 10:50], INPUT[1:])[0]
    np.testing.assert_array_equal(
        scores(inversion(network, large), images), scores(inversion(network, center), images)
    )


def test_values_range_scales_bytes(network, images):
    photograph = pixels(size=(20, 20))
    image = torch.from_numpy(photograph).permute(2, 0, 1) / 255
    np.testing.assert_allclose(
        scores(inversion(network, photograph, values_range=(0, 1)), images),
        scores(inversion(network, image, values_range=(0, 1)), images),
        rtol=1e-6,
    )


def test_gray_networks(images):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    photograph = pixels(channels=1, size=(20, 20))
    expected = Objective.inversion(network, 1, as_image(photograph), input_shape=(1, 20, 20))
    for same in (photograph, photograph[..., 0], Image.fromarray(photograph[..., 0])):
        found = Objective.inversion(network, 1, same, input_shape=(1, 20, 20))
        np.testing.assert_allclose(
            scores(found, images[:, :1]), scores(expected, images[:, :1]), rtol=1e-6
        )
    color = Objective.inversion(network, 1, pixels(), input_shape=(1, 20, 20))
    assert np.isfinite(scores(color, images[:, :1])).all()


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


def damaged(folder):
    path = folder / "damaged.png"
    path.write_bytes(b"no picture")
    return path


def deep(folder):
    path = folder / "deep.png"
    Image.fromarray(np.zeros((20, 20), dtype=np.uint16)).save(path)
    return path


BAD = [
    (lambda _: 5, TypeError, "path of a file, an image of Pillow, an array or a tensor; got int"),
    (lambda _: [], ValueError, "expected one or several, got an empty list"),
    (lambda _: "nosuch.png", FileNotFoundError, "nosuch.png"),
    (damaged, ValueError, r"photograph .*damaged\.png: .*damaged, or of another format"),
    (deep, ValueError, "more than 8 bits"),
    (lambda folder: folder, ValueError, "photograph"),
    (lambda _: pixels()[..., :2], ValueError, r"bytes has the shape \(30, 40, 2\); expected"),
    (lambda _: torch.zeros(4, 20, 20), ValueError, r"shape \(4, 20, 20\); expected \(3, H, W\)"),
    (lambda _: pixels() / 255, ValueError, r"shape \(30, 40, 3\); expected \(3, H, W\)"),
    (lambda _: torch.full(INPUT, 2.0), ValueError, r"from 2 to 2; expected values_range, \(-1, 1"),
    (lambda _: torch.full(INPUT, float("nan")), ValueError, "from nan to nan; expected"),
]  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("photograph", "error", "message"), BAD)
def test_bad_photographs(network, tmp_path, name, photograph, error, message):
    with pytest.raises(error, match=message):
        MAKERS[name](network, "3", photograph(tmp_path), input_shape=INPUT)


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


def test_images_of_many_channels_are_given_as_floats():
    model = nn.Conv2d(5, 2, 1).eval()
    image = torch.rand(5, 8, 8)
    assert Objective.inversion(model, model, image, input_shape=(5, 8, 8)).group_size == 1
    with pytest.raises(ValueError, match=r"images of 5 channels, and files have 1 or 3"):
        Objective.inversion(model, model, pixels(), input_shape=(5, 8, 8))
