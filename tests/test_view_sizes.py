"""Views that are smaller than the network's input: which are made, and who can do without."""

import warnings

import pytest
import torch
from torch import nn

from fvfast import Linear, Objective, maco, maco_batch
from fvfast.atlas.settings import planned_settings, read_settings
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.presets import PRESETS
from fvfast.run.schedules import schedule_of
from fvfast.run.view_sizes import ViewSizes

SIZE = 64
SETTINGS = {"nb_steps": 5, "nb_crops": 2, "custom_shape": 48, "box_size": 0.9, "progress": False}


def network(pooled=True):
    torch.manual_seed(0)
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)] if pooled else [nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.SiLU(), *end).eval()


class Watched(nn.Module):
    """Tells a function the sizes of what it is shown with a gradient."""

    def __init__(self, inner, tell):
        super().__init__()
        self.inner = inner
        self.tell = tell

    def forward(self, images):
        if torch.is_grad_enabled():
            self.tell(tuple(images.shape[2:]))
        return self.inner(images)


def sizes(fraction, nb_steps, full):
    return ViewSizes(full, schedule_of("view_size", fraction, nb_steps), nb_steps)


@pytest.mark.parametrize(
    ("fraction", "full", "expected"),
    [
        (Linear(4 / 7, 1), (224, 224), [128, 160, 192, 224]),
        (1.0, (299, 299), [299] * 4),
        (0.5, (299, 299), [160] * 4),
        (Linear(1, 0.1), (64, 64), [64, 32, 32, 32]),
        (0.01, (224, 224), [32] * 4),
        (0.5, (28, 28), [28] * 4),
    ],
)
def test_sides_are_multiples_of_the_stride_or_the_networks_own(fraction, full, expected):
    found = sizes(fraction, 4, full)
    assert [found.at(step) for step in range(4)] == [(side, side) for side in expected]
    assert found.at(found.largest_step) == (max(expected),) * 2


def test_height_and_width_shrink_alike():
    assert sizes(0.5, 1, (256, 128)).at(0) == (128, 64)


@pytest.mark.parametrize("fraction", [0, 1.01, Linear(0.5, 1.5), -1, float("nan")])
def test_a_fraction_is_above_0_and_at_most_1(fraction):
    with pytest.raises(ValueError, match=r"view_size must be|must be finite|not negative"):
        MacoSettings(view_size=fraction)


def test_a_function_is_asked_in_each_step():
    with pytest.raises(ValueError, match=r"at most 1, .* got 2 in step 3"):
        maco(
            Objective.neuron(network(), -1, 0, input_shape=(3, SIZE, SIZE)),
            **SETTINGS, view_size=lambda step: 2.0 if step == 3 else 0.5,
        )  # fmt: skip


def test_views_have_the_sizes_of_their_steps():
    told = []
    watched = Watched(network(), lambda size: told.append(size)).eval()
    objective = Objective.neuron(watched, -1, 1, input_shape=(3, SIZE, SIZE))
    maco(objective, **SETTINGS, view_size=Linear(0.5, 1))
    taken = told[-5:]  # those before are of trials
    assert taken == [(32, 32), (32, 32), (64, 64), (64, 64), (64, 64)]


def test_the_views_are_the_crops_at_that_size():
    objective = Objective.neuron(network(), -1, 1, input_shape=(3, 32, 32))
    expected = maco(objective, **SETTINGS)
    larger = Objective.neuron(objective.model, -1, 1, input_shape=(3, SIZE, SIZE))
    found = maco(larger, **SETTINGS, view_size=0.5)
    assert torch.equal(found.image, expected.image)
    assert not torch.equal(maco(larger, **SETTINGS).image, expected.image)


def test_a_batch_is_drawn_like_single_images():
    objective = Objective.neuron(network(), -1, [0, 3], input_shape=(3, SIZE, SIZE))
    batch = maco_batch(objective, **SETTINGS, view_size=Linear(0.5, 1))
    for index, unit in enumerate((0, 3)):
        alone = maco(
            Objective.neuron(objective.model, -1, unit, input_shape=(3, SIZE, SIZE)),
            **SETTINGS, view_size=Linear(0.5, 1),
        )  # fmt: skip
        torch.testing.assert_close(batch.images[index], alone.image, atol=1e-4, rtol=1e-4)


def flat():
    """A network that takes images of 64 x 64 only."""
    return nn.Sequential(network(pooled=False), nn.Linear(6 * 16 * 16, 4)).eval()


REFUSED = {
    "a layer of fixed size": (
        lambda: Objective.neuron(flat(), -1, 0, input_shape=(3, SIZE, SIZE)),
        "the network fails with them",
    ),
    "a neuron at a position": (
        lambda: Objective.neuron(network(), "0", 7, input_shape=(3, SIZE, SIZE)),
        "6 x 8 x 8 instead of 6 x 16 x 16",
    ),
    "a photograph": (
        lambda: Objective.inversion(
            network(), "0", torch.rand(3, SIZE, SIZE), input_shape=(3, SIZE, SIZE)
        ),
        "6 x 8 x 8 instead of 6 x 16 x 16",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_seen_smaller_is_refused(case):
    make, reason = REFUSED[case]
    with pytest.raises(ValueError, match=rf"view_size asks for views of 32 x 32, but .*{reason}"):
        maco(make(), **SETTINGS, view_size=0.5)


@pytest.mark.parametrize("case", REFUSED)
def test_a_preset_does_without_them(case):
    objective = REFUSED[case][0]()
    settings = {"nb_steps": 4, "custom_shape": 48, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "maco: the objective compares")
        found = maco(objective, preset="quick", **settings)
        whole = maco(objective, preset="quick", view_size=1, **settings)
    assert torch.equal(found.image, whole.image)


def test_the_preset_has_them():
    objective = Objective.neuron(network(), -1, 1, input_shape=(3, SIZE, SIZE))
    settings = {"nb_steps": 4, "custom_shape": 48, "progress": False}
    found = maco(objective, preset="quick", **settings)
    expected = maco(objective, preset="quick", view_size=Linear(4 / 7, 1), **settings)
    assert torch.equal(found.image, expected.image)
    assert not torch.equal(
        maco(objective, preset="quick", view_size=1, **settings).image, found.image
    )
    assert PRESETS["quick"].arguments["view_size"] == Linear(4 / 7, 1)


@pytest.mark.parametrize("kind", ["channel", "layer"])
def test_channels_and_layers_are_seen_at_any_size(kind):
    model = network()
    made = {
        "channel": lambda: Objective.channel(model, "0", 2, input_shape=(3, SIZE, SIZE)),
        "layer": lambda: Objective.layer(model, "0", input_shape=(3, SIZE, SIZE)),
    }[kind]()
    assert maco(made, **SETTINGS, view_size=0.5).image.isfinite().all()


def test_plans_hold_it():
    planned = planned_settings({"view_size": Linear(0.5, 1)}, (0, 1), (SIZE, SIZE))
    assert planned["view_size"] == [0.5, 1]
    assert read_settings(planned).view_size == Linear(0.5, 1)
    assert MacoSettings().described()["view_size"] is None
