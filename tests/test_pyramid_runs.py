"""Pyramids in a run: levels are added one by one, and the preset that draws them."""

import math

import pytest
import torch

from fvfast import Linear, Objective, maco, maco_batch
from fvfast.ops.reference.pyramid import pyramid_sizes, sum_of_levels
from fvfast.parametrizations.pyramid import GAIN, START_STD, Pyramid
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.presets import PRESETS

SIZE = (12, 15)  # five levels
LEVELS = [math.prod(size) for size in pyramid_sizes(*SIZE)]
INPUT = (3, 20, 20)
SHORT = {"nb_steps": 6, "nb_crops": 2, "custom_shape": (32, 40), "progress": False}


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=INPUT)


def pyramid(nb_steps=20, identities=(7, 0), seed=3, optimizer=None, channels=3):
    return Pyramid(
        (channels, *SIZE), identities, seed=seed, nb_steps=nb_steps, values_range=(-1.0, 2.0),
        optimizer=optimizer, device=torch.device("cpu"),
    )  # fmt: skip


def take_step(parametrization, scale=0.0):
    score = scale * parametrization.image().cumsum(3).sum()
    (gradient,) = torch.autograd.grad(score, parametrization.source)
    parametrization.ascend(gradient)


def levels_in(state):
    """How many of the levels are not 0."""
    return sum(bool(part.any()) for part in state.detach().split(LEVELS, dim=2))


def test_levels_are_added_at_equal_intervals_in_the_first_half():
    made, seen = pyramid(nb_steps=20), []
    for _ in range(20):
        take_step(made)
        seen.append(levels_in(made.state))
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4, *[5] * 12]


def test_few_steps_add_several_levels_at_once_and_none_behind_the_last_step():
    made = pyramid(nb_steps=1)
    take_step(made)
    assert levels_in(made.state) == 1
    made = pyramid(nb_steps=2)
    for _ in range(2):
        take_step(made)
    assert levels_in(made.state) == 5


def test_all_levels_keep_the_size_of_the_sum():
    """n old levels are scaled by n / (n + 1), so after n additions each has 1 / (n + 1)."""
    made = pyramid(nb_steps=20, identities=range(200))
    for _ in range(12):
        take_step(made)
    for part in made.state.detach().split(LEVELS, dim=2):
        # Of 600 numbers and more: their deviation is known to within 3 %.
        assert part.std() == pytest.approx(START_STD / len(LEVELS), rel=0.12)


def test_a_level_is_a_function_of_seed_identity_and_level():
    first, other, seeded = pyramid(), pyramid(identities=(0, 8, 7)), pyramid(seed=4)
    for made in (first, other, seeded):
        for _ in range(12):
            take_step(made)
    assert torch.equal(first.state[0], other.state[2])
    assert torch.equal(first.state[1], other.state[0])
    state = first.state.detach()
    for part, different in zip(
        state.split(LEVELS, dim=2), seeded.state.detach().split(LEVELS, dim=2), strict=True
    ):
        assert (part != different).all()
        assert (part[0] != part[1]).all()
    # The first numbers of two levels differ, too.
    assert len({state[0, 0, sum(LEVELS[:level])].item() for level in range(5)}) == 5


def test_a_new_level_waits_for_the_step():
    """Until then the picture is what the last step has made."""
    made = pyramid(nb_steps=20)
    take_step(made)
    take_step(made)
    before, rendered = made.state.detach().clone(), made.render()
    image = made.image()
    assert torch.equal(made.state, before)
    assert torch.equal(made.render(), rendered)
    assert not torch.equal(image, rendered)
    assert torch.equal(made.image(), image)  # asked again, the same
    (gradient,) = torch.autograd.grad(0 * made.image().sum(), made.source)
    made.ascend(gradient)
    assert torch.equal(made.render(), image)


def test_the_optimizer_begins_anew_with_each_level():
    counts = []

    class Counted(torch.optim.SGD):
        def step(self, closure=None):
            state = self.state[self.param_groups[0]["params"][0]]
            state["count"] = state.get("count", 0) + 1
            counts.append(state["count"])
            super().step(closure)

    made = pyramid(nb_steps=18, optimizer=Counted)
    for _ in range(12):
        take_step(made)
    assert counts == [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 3, 4]


def test_the_default_is_adam():
    ours = pyramid(nb_steps=1000)
    theirs = pyramid(nb_steps=1000, optimizer=lambda given: torch.optim.Adam(given, lr=0.1))
    for _ in range(5):
        take_step(ours, scale=1.0)
        take_step(theirs, scale=1.0)
    torch.testing.assert_close(ours.state, theirs.state, rtol=1e-4, atol=1e-5)
    assert (ours.state - pyramid().state).abs().max() > 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_is_the_sum_of_the_levels(channels):
    made = pyramid(channels=channels)
    for _ in range(12):
        take_step(made, scale=0.01)
    sums = GAIN * sum_of_levels(made.state.detach(), SIZE)
    if channels == 1:
        torch.testing.assert_close(made.render(), sums.sigmoid() * 3 - 1)
    else:  # colors are mixed
        assert not torch.allclose(made.render(), sums.sigmoid() * 3 - 1, atol=0.01)


def test_an_image_that_is_put_back_keeps_its_levels():
    """As a run does with one whose score is no longer finite; later levels do not reach it."""
    made = pyramid(nb_steps=20)
    for _ in range(3):
        take_step(made)
    good, rendered = made.state.detach().clone(), made.render()
    for _ in range(10):
        take_step(made, scale=1.0)
        with torch.no_grad():
            made.state[0] = good[0]
        torch.testing.assert_close(made.render()[0], rendered[0], rtol=1e-5, atol=1e-6)
    assert levels_in(made.state[1:]) == 5


def test_the_preset(objective):
    """It is nothing but its arguments and its parametrization, and what is given counts."""
    first = maco(objective, **SHORT, preset="pyramid")[0]
    assert first.shape == (3, 32, 40)
    assert -1 <= first.min() < first.max() <= 1
    arguments = PRESETS["pyramid"].arguments
    again = maco(objective, **{**arguments, **SHORT}, preset="pyramid")[0]
    assert torch.equal(first, again)
    assert not torch.allclose(first, maco(objective, **{**arguments, **SHORT})[0], atol=0.01)
    other = maco(objective, **SHORT, preset="pyramid", learning_rate=0.5)[0]
    assert not torch.allclose(first, other, atol=0.01)
    assert not torch.equal(first, maco(objective, **SHORT, preset="pyramid", seed=1)[0])


def test_a_run_climbs(objective):
    scores = []
    maco(
        objective, **{**SHORT, "nb_steps": 40}, preset="pyramid",
        callback=lambda report: scores.append(report.scores.item()),
    )  # fmt: skip
    assert sum(scores[-10:]) > sum(scores[:10])


def test_an_image_alone_is_what_it_is_in_a_batch(network):
    both = Objective.neuron(network, "7", [3, 5], input_shape=INPUT)
    batch = maco_batch(both, **SHORT, preset="pyramid")
    alone = maco(Objective.neuron(network, "7", 5, input_shape=INPUT), **SHORT, preset="pyramid")
    assert torch.allclose(batch.images[1], alone[0], atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_is_ended_early_keeps_its_last_step(objective, steps):
    """Whatever level the next step would have added."""
    reported = []

    def watch(report):
        reported.append(report.images[0])
        return report.step == steps - 1

    image, _ = maco(objective, **SHORT, preset="pyramid", callback=watch)
    assert len(reported) == steps
    assert torch.equal(image, reported[-1])


def test_images_are_kept_as_they_were_when_their_scores_end(network):
    """A NaN while levels are still added: neither the step nor its level counts."""
    calls = []

    def score(images):
        calls.append(len(images))
        values = network(images)[:, 3]
        return values.sum() * (math.nan if len(calls) > 9 else 1.0)

    objective = Objective.from_callable(network, score, input_shape=INPUT)
    images = []
    with pytest.warns(RuntimeWarning, match="is not finite"):
        image, _ = maco(
            objective, **{**SHORT, "nb_steps": 40}, preset="pyramid",
            callback=lambda report: images.append(report.images[0]),
        )  # fmt: skip
    assert 1 < len(images) < 40
    assert image.isfinite().all()
    # The last image of which a score is known: the next one has none that is finite.
    assert torch.equal(image, images[-2])


def test_a_data_set_is_refused(objective):
    with pytest.raises(ValueError, match=r'preset="pyramid" optimizes .* maco_dataset has no'):
        maco(objective, maco_dataset=torch.rand(2, *INPUT), **SHORT, preset="pyramid")


def test_a_side_that_is_too_long_is_refused(objective):
    with pytest.raises(ValueError, match=r"custom_shape is 2 x 40000; .* up to 32768 pixels"):
        maco(objective, **{**SHORT, "custom_shape": (2, 40000)}, preset="pyramid")


def test_the_preset_is_described():
    described = MacoSettings.with_preset(preset="pyramid").described()
    assert (described["nb_steps"], described["nb_crops"]) == (128, 4)
    assert described["learning_rate"] == [0.1, 0.01]
    assert described["box_size"] == [0.9, 0.3]
    assert PRESETS["pyramid"].arguments["noise_intensity"] == Linear(0.2, 0.02)
