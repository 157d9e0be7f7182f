"""Runs that Horama's own code made (`record.py`), repeated on the same starts, boxes and noise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fvfast import horama
from fvfast.horama import feature_accentuation, fourier_fv, maco_fv
from fvfast.horama.ascent import draw_image, horama_views
from fvfast.horama.recipe import Recipe

SEED, SEEDED_STEPS = 7, 3  # as in record.py
TOLERANCE = 1e-4
"""Relative to the largest value. The recorded arithmetic is float32, as is that of fvfast."""

METHODS = ("maco", "fourier", "accentuation")


@pytest.fixture(scope="module")
def recorded():
    with np.load(Path(__file__).with_name("horama_64x64.npz")) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture
def network(recorded):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 16, 3, stride=2), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip
    prefix = "network."
    weights = {key: value for key, value in recorded.items() if key.startswith(prefix)}
    model.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()})
    return model


class Recorded:
    """The recorded boxes and noise."""

    def __init__(self, arrays):
        self.boxes_of_steps, self.noise = iter(arrays["boxes"]), iter(arrays["noise"])

    def boxes(self, count, box_size):
        assert (count, box_size) == (2, (0.20, 0.25))
        return next(self.boxes_of_steps)

    def noisy(self, crops, level):
        assert level == 0.05
        return crops + next(self.noise)


class Watched:
    """A parametrization whose images and their gradients are kept."""

    def __init__(self, parametrization):
        self.inner, self.images, self.gradients = parametrization, [], []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def image(self):
        image = self.inner.image()
        self.images.append(image.detach()[0])
        return image

    def ascend(self, gradient):
        self.gradients.append(gradient[0])
        self.inner.ascend(gradient)


def start_of(method, recipe, recorded):
    """The parametrization, and the penalty."""
    if method == "maco":
        magnitude, phase = recorded["magnitude"], recorded["phase"].clone()
        return maco_fv.parametrize(recipe, magnitude, phase), None
    if method == "fourier":
        return fourier_fv.parametrize(recipe, 1.5, recorded["spectrum"]), None
    start, first = feature_accentuation.parametrize(recipe, 1.5, recorded["seed"])
    return start, feature_accentuation.distance(first, 1.0)


def relative(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_run(method, recorded, network):
    """Five steps: images, gradients, scores and transparency."""
    scores = []

    def objective(images):
        scores.append(network(images)[:, 3].mean())
        return scores[-1]

    recipe = Recipe(
        function=method, objective_function=objective, total_steps=5, learning_rate=1.0,
        image_size=64, model_input_size=32, noise=0.05, values_range=(-2.5, 2.5),
        crops_per_iteration=2, box_size=(0.20, 0.25), device="cpu", seed=None,
        resampling="horama", progress=False,
    )  # fmt: skip
    start, penalty = start_of(method, recipe, recorded)
    watched = Watched(start)
    result = draw_image(recipe, watched, horama_views(recipe, Recorded(recorded)), penalty)
    # Horama descends.
    found = {
        "scores": torch.stack(scores).detach(), "image": result.image,
        "transparency": result.transparency, "first_image": watched.images[0],
        "first_gradient": -watched.gradients[0], "last_image": watched.images[-1],
        "last_gradient": -watched.gradients[-1],
    }  # fmt: skip
    errors = {key: relative(value, recorded[f"{method}.{key}"]) for key, value in found.items()}
    assert max(errors.values()) < TOLERANCE, errors
    assert relative(found["image"], found["first_image"]) > 100 * TOLERANCE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [None, SEED])
def test_the_same_seed_gives_horamas_image(method, seed, recorded, network):
    """Boxes, noise and starts are drawn as Horama draws them, from torch's generators."""
    torch.manual_seed(SEED if seed is None else 0)
    arguments = {"image_seed": recorded["seed"]} if method == "accentuation" else {}
    image, _ = getattr(horama, method)(
        lambda images: network(images)[:, 3].mean(), total_steps=SEEDED_STEPS, image_size=64,
        model_input_size=32, crops_per_iteration=2, seed=seed, progress=False, **arguments,
    )  # fmt: skip
    assert relative(image, recorded[f"{method}.seeded_image"]) < TOLERANCE
