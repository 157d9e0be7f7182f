import pytest
import torch
from engine.test_state import assert_same, fingerprint
from selection import thorough
from torch import nn

from fvfast import Objective, optimize
from fvfast.regularizers import l2_reg, total_variation_reg
from fvfast.transformations import random_flip, random_jitter

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 3, "custom_shape": (64, 64), "progress": False}


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", [1, 4], input_shape=INPUT)


def test_images_and_names(objective):
    images, names = optimize(objective, **SHORT, values_range=(-1, 2))
    assert names == ["Neuron#7_1", "Neuron#7_4"]
    assert [batch.shape for batch in images] == [(2, 3, 64, 64)]
    # Each image is rescaled to the whole range.
    assert torch.allclose(images[0].amin((1, 2, 3)), torch.tensor(-1.0), atol=1e-5)
    assert torch.allclose(images[0].amax((1, 2, 3)), torch.tensor(2.0), atol=1e-5)


def mean_score(objective, batch):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(nn.functional.interpolate(batch, INPUT[1:], mode="bilinear"))).mean()


@pytest.mark.parametrize("use_fft", [True, False])
@pytest.mark.parametrize("image_normalizer", ["sigmoid", thorough("clip"), thorough(torch.tanh)])
def test_score_rises(objective, use_fft, image_normalizer):
    images, _ = optimize(
        objective,
        nb_steps=40,
        use_fft=use_fft,
        image_normalizer=image_normalizer,
        transformations=None,
        custom_shape=None,
        save_every=1,
        progress=False,
    )
    assert len(images) == 40
    assert mean_score(objective, images[-1]) > mean_score(objective, images[0])


@pytest.mark.parametrize("shape", [(64, 48), (48, 65), (33, 47), (225, 64)])
def test_any_size(objective, shape):
    images, _ = optimize(objective, **{**SHORT, "custom_shape": shape})
    assert images[0].shape == (2, 3, *shape)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels):
    model = nn.Sequential(nn.Conv2d(channels, 4, 3)).eval()
    objective = Objective.channel(model, 0, 1, input_shape=(channels, 16, 16))
    images, _ = optimize(objective, **SHORT)
    assert images[0].shape == (1, channels, 64, 64)


def test_same_seed_same_images_and_global_state_untouched(objective):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, _ = optimize(objective, **SHORT, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second, _ = optimize(objective, **SHORT, seed=3)
    other, _ = optimize(objective, **SHORT, seed=4)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[0], other[0], atol=0.05)


def test_save_every_keeps_the_last_step_too(objective):
    images, _ = optimize(objective, **{**SHORT, "nb_steps": 5}, save_every=2)
    assert len(images) == 3
    images, _ = optimize(objective, **{**SHORT, "nb_steps": 4}, save_every=2)
    assert len(images) == 2


def test_transformations_as_function_list_or_none(objective):
    for transformations in (None, random_jitter(4), [random_jitter(4), random_flip()]):
        images, _ = optimize(objective, **SHORT, transformations=transformations)
        assert images[0].isfinite().all()
    with pytest.raises(TypeError, match="transformations must be"):
        optimize(objective, **SHORT, transformations="strong")


def test_regularizers_are_subtracted(objective):
    seen = []

    def spy(images):
        seen.append(images.shape)
        return l2_reg(5.0)(images) + total_variation_reg(1e-3)(images)

    settings = {"nb_steps": 30, "custom_shape": None, "transformations": None, "progress": False}
    penalized, _ = optimize(objective, **settings, regularizers=[spy])
    assert seen[0] == (2, *INPUT)
    free, _ = optimize(objective, **settings)
    assert l2_reg()(penalized[0]).mean() < l2_reg()(free[0]).mean()


def test_warm_up_wakes_a_dead_unit():
    """After a ReLU that is zero at first there is no gradient, but with warm-up there is."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    with torch.no_grad():
        model[0].bias.fill_(-0.6)
    objective = Objective.channel(model, 1, 2, input_shape=INPUT)
    settings = {
        "nb_steps": 20,
        "custom_shape": None,
        "transformations": None,
        "progress": False,
        "use_fft": False,
        "std": 1e-4,
        # Without the usual rescaling the first image is flat, and the unit dead.
        "image_normalizer": torch.sigmoid,
    }
    with torch.no_grad():
        model[0].weight.sub_(model[0].weight.mean((1, 2, 3), keepdim=True))
    before = fingerprint(model)
    awake, _ = optimize(objective, **settings, warmup_steps=10)
    assert_same(before, fingerprint(model))
    assert mean_score(objective, awake[0]) > 0


def test_interrupt_of_the_warm_up(objective, network):
    before = fingerprint(network)
    calls = []

    def interrupt(images):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return images

    with pytest.warns(RuntimeWarning, match="interrupted after 1 of 3 steps"):
        images, names = optimize(objective, **SHORT, transformations=interrupt, warmup_steps=3)
    assert images[-1].isfinite().all()
    assert len(names) == 2
    assert_same(before, fingerprint(network))


def test_warm_up_that_is_not_finite_keeps_the_last_finite_images(objective):
    calls = []

    def spoil(images):
        calls.append(1)
        return images * (float("nan") if len(calls) == 2 else 1.0)

    with pytest.warns(RuntimeWarning, match="step 1: the score or its gradient is not finite"):
        images, _ = optimize(objective, **SHORT, transformations=spoil, warmup_steps=3)
    assert images[-1].isfinite().all()


def test_regularizer_of_another_shape_is_refused(objective):
    with pytest.raises(ValueError, match=r"returned shape \(5,\) for 2 images"):
        optimize(objective, **SHORT, regularizers=[lambda _: torch.zeros(5)])
    with pytest.raises(TypeError, match="regularizers must be functions"):
        optimize(objective, **SHORT, regularizers=[3])
    images, _ = optimize(objective, **SHORT, regularizers=l2_reg())
    assert images[-1].isfinite().all()


def test_interrupt_keeps_the_images_so_far(objective, network):
    before = fingerprint(network)

    def interrupt(report):
        if report.step == 1:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 3 steps"):
        images, names = optimize(objective, **SHORT, callback=interrupt)
    two, _ = optimize(objective, **{**SHORT, "nb_steps": 2})
    assert torch.equal(images[-1], two[-1])
    assert len(names) == 2
    assert_same(before, fingerprint(network))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nb_steps": 0}, "nb_steps must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
        ({"std": float("nan")}, "std must be finite"),
        ({"fft_decay": float("inf")}, "fft_decay must be finite"),
        ({"image_normalizer": "foo"}, "image_normalizer must be"),
        ({"custom_shape": (1, 64)}, "at least 2 x 2"),
        ({"values_range": (0, 0)}, "values_range"),
        ({"values_range": (0, float("nan"))}, "values_range"),
    ],
)
def test_mistakes_are_explained(objective, settings, message):
    with pytest.raises(ValueError, match=message):
        optimize(objective, **{**SHORT, **settings})


def test_score_without_a_gradient_is_refused():
    objective = Objective.from_callable(None, lambda x: x.detach().mean(), input_shape=INPUT)
    with pytest.raises(ValueError, match="does not depend on the image"):
        optimize(objective, **SHORT)
