"""Presets, and the numbers that change over a run."""

import numpy as np
import pytest
import torch

from fvfast import Geometric, Linear, Objective, maco, maco_batch, optimize
from fvfast.run.presets import OPTIMIZE_PRESETS, PRESETS
from fvfast.transformations import generate_lucid_transformations

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 4, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=INPUT)


def test_presets(objective):
    settings = {"nb_steps": 2, "custom_shape": (32, 32), "progress": False}
    xplique, horama, paper = (
        maco(objective, **settings, preset=preset)[0] for preset in ("xplique", "horama", "paper")
    )
    assert -2.5 <= horama.min() < 1 < horama.max() <= 2.5
    assert -1 <= xplique.min() < xplique.max() <= 1
    assert -1 <= paper.min() < paper.max() <= 1
    assert not torch.allclose(xplique, paper)
    explicit = maco(objective, **settings, preset="horama", values_range=(0, 1))[0]
    assert 0 <= explicit.min() < explicit.max() <= 1


def test_the_fast_preset(objective):
    """It is nothing but its arguments, and what is given counts."""
    settings = {"nb_steps": 3, "custom_shape": (32, 32), "progress": False}
    arguments = {**PRESETS["fast"].arguments, **settings}
    image = maco(objective, **settings, preset="fast")[0]
    assert torch.equal(image, maco(objective, **arguments)[0])
    assert not torch.allclose(image, maco(objective, **settings)[0], atol=0.01)
    other = maco(objective, **settings, preset="fast", learning_rate=1, box_size=0.5)[0]
    assert torch.equal(
        other, maco(objective, **{**arguments, "learning_rate": 1, "box_size": 0.5})[0]
    )
    batch = maco_batch(objective, **settings, preset="fast")
    assert torch.equal(batch.images[0], image)


def test_the_fast_presets_learning_rate_is_that_of_its_optimizer(objective):
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    mine = Recorded([torch.zeros(1)], lr=0.125)
    maco(objective, mine, **SHORT, preset="fast")
    assert rates == [0.125] * SHORT["nb_steps"]
    rates.clear()
    maco(objective, mine, **SHORT, preset="fast", learning_rate=0.5)
    assert rates == [0.5] * SHORT["nb_steps"]


@pytest.mark.parametrize("box_size", [1, 1.0, np.float32(0.3), lambda step: 0.5 / (step + 1)])
@pytest.mark.parametrize("noise", [0, np.float64(0.1), None, lambda _: 0.1])
def test_numbers_and_schedules(objective, box_size, noise):
    image, _ = maco(objective, **SHORT, box_size=box_size, noise_intensity=noise)
    assert image.isfinite().all()


def test_learning_rate(objective):
    """It is the optimizer's own in every step, whichever optimizer that is."""
    default = maco(objective, **SHORT)[0]
    assert torch.equal(maco(objective, **SHORT, learning_rate=1)[0], default)
    seen = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])
            super().step(closure)

    maco(objective, Recorded, **SHORT, learning_rate=Linear(2, 0.5))
    assert seen == [2, 1.5, 1, 0.5]
    halving = maco(objective, **SHORT, learning_rate=Geometric(2, 0.25))[0]
    by_function = maco(objective, **SHORT, learning_rate=lambda step: 2.0 ** (1 - step))[0]
    assert torch.allclose(halving, by_function, atol=1e-4)
    assert not torch.allclose(halving, default, atol=0.01)


def test_a_learning_rate_of_zero_changes_nothing(objective):
    images = []
    maco(
        objective,
        **SHORT,
        learning_rate=0,
        callback=lambda report: images.append(report.images),
    )
    assert all(torch.equal(image, images[0]) for image in images)


def test_an_optimizer_without_a_learning_rate_is_named(objective):
    class Own(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {})

        def step(self, closure=None):  # noqa: ARG002
            raise AssertionError("no step must be taken")

    with pytest.raises(TypeError, match="Own has no learning rate 'lr'"):
        maco(objective, Own, **SHORT, learning_rate=0.1)


def test_the_lucid_preset_of_optimize(objective):
    """It is nothing but its arguments, and what is given counts."""
    settings = {"nb_steps": 3, "progress": False}
    arguments = OPTIMIZE_PRESETS["lucid"].arguments
    images = optimize(objective, **settings, preset="lucid").images
    assert images[-1].shape == (1, *INPUT)
    assert torch.equal(images[-1], optimize(objective, **settings, **arguments)[0][-1])
    chain = generate_lucid_transformations(INPUT[1])
    same = optimize(objective, **settings, **{**arguments, "transformations": chain})
    assert torch.equal(images[-1], same[0][-1])
    large = optimize(objective, **settings, preset="lucid", custom_shape=32)[0][-1]
    assert large.shape == (1, 3, 32, 32)
    plain = optimize(objective, **settings, custom_shape=None)[0][-1]
    assert torch.equal(
        plain, optimize(objective, **settings, custom_shape=None, preset="xplique")[0][-1]
    )
    assert not torch.equal(plain, images[-1])
    with pytest.raises(
        ValueError, match=r"preset must be one of \['lucid', 'xplique'\], got 'fast'"
    ):
        optimize(objective, **settings, preset="fast")


@pytest.mark.parametrize(("size", "smallest", "largest"), [(128, 125, 154), (224, 220, 270)])
def test_lucid_transformations_keep_the_image_nearly_whole(size, smallest, largest):
    chain = generate_lucid_transformations(size, 1)
    sizes = [chain(torch.zeros(1, 1, size, size)).shape[2] for _ in range(40)]
    assert smallest <= min(sizes) < max(sizes) <= largest
    for wrong in ((0, 3), (8, 0)):
        with pytest.raises(ValueError, match="size and channels are"):
            generate_lucid_transformations(*wrong)
