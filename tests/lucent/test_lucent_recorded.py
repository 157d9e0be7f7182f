"""The numbers are Lucent's, as recorded by record_lucent.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_cases import (
    drawn,
    loss_and_gradient,
    objective_cases,
    parametrization_cases,
    small_network,
    transform_cases,
)
from selection import short_for

from fvfast.lucent.optvis import objectives, param, render, transform

FILE = Path(__file__).with_name("recorded.npz")
VECTORS = (np.zeros(6, np.float32), np.zeros(8, np.float32))
"""For the names of the cases."""

SHORT = ("text", "blur_input_each_step", "diversity", "sum", "function")


@pytest.fixture(scope="module")
def recorded():
    with np.load(FILE) as file:
        return dict(file)


@pytest.fixture
def model(recorded):
    prefix = "weights/"
    return small_network(
        {name[len(prefix) :]: one for name, one in recorded.items() if name.startswith(prefix)}
    )


@pytest.fixture
def cases(recorded):
    return objective_cases(objectives, (recorded["vector_6"], recorded["vector_8"]))


def close(ours, theirs, tolerance):
    """Compare with a tolerance relative to the largest value."""
    largest = np.abs(theirs).max()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("name", objective_cases(objectives, VECTORS))
def test_loss_and_gradient(name, recorded, model, cases):
    loss, gradient = loss_and_gradient(objectives, render, model, cases[name], recorded["start"])
    # Rounding of float32 over sums of some thousand terms.
    close(np.float32(loss), recorded[f"loss/{name}"], 1e-5)
    close(gradient, recorded[f"gradient/{name}"], 1e-5)


@pytest.mark.parametrize("name", short_for(SHORT, objective_cases(objectives, VECTORS)))
def test_drawn_images(name, recorded, model, cases):
    """A whole run, through the engine: with folded batch normalizations, for example."""
    ours = drawn(render, model, cases[name], recorded["start"])
    theirs = recorded[f"drawn/{name}"]
    moved = np.abs(theirs[-1] - theirs[0]).max()
    assert moved > 1e-3
    # Relative to how far the images moved; ReLUs that switch make rounding grow over the steps.
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-4 * moved)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-2 * moved)


@pytest.mark.parametrize("name", transform_cases(transform))
def test_transformed_images(name, recorded):
    ours = transform_cases(transform)[name](torch.from_numpy(recorded["square"]))
    # Coordinates of a rotation are rounded to 1e-6 of the image's side.
    close(ours.numpy(), recorded[f"transformed/{name}"], 1e-5)


@pytest.mark.parametrize("name", parametrization_cases(param))
def test_images_of_parametrizations(name, recorded):
    params, image = parametrization_cases(param)[name]
    for index, one in enumerate(params):
        one.data.copy_(torch.from_numpy(recorded[f"parameters/{name}/{index:02}"]))
    close(image().detach().numpy(), recorded[f"image/{name}"], 1e-6)
