import copy
import inspect
import threading

import pytest
import torch
from engine.test_state import assert_same, fingerprint
from injected_runs import InjectedSettings
from torch import nn

from fvfast import Objective, Spectrum, accentuate, maco, maco_batch, optimize
from fvfast.lucent.optvis import objectives as lucent_objectives
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.ops.crop_resize import random_crops
from fvfast.regularizers import total_variation_reg
from fvfast.run.accentuate_settings import AccentuateSettings
from fvfast.run.batches import draw_batches
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.run import Run

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 4, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=INPUT)


def test_image_and_transparency(objective):
    image, transparency = maco(objective, **SHORT, values_range=(-2, 3))
    assert image.shape == transparency.shape == (3, 32, 32)
    assert image.dtype == transparency.dtype == torch.float32
    assert not image.requires_grad
    assert -2 <= float(image.min()) < float(image.max()) <= 3
    assert float(transparency.min()) >= 0
    assert float(transparency.max()) > 0


def test_score_rises(objective):
    scores = maco_batch(objective, **{**SHORT, "nb_steps": 60, "nb_crops": 8}, noise_intensity=0.0)
    assert scores.scores[0, -10:].mean() > scores.scores[0, :5].mean()


@pytest.mark.parametrize("shape", [(64, 48), (33, 47), (20, 225), (2, 3), (2, 2)])
def test_any_size(objective, shape):
    image, transparency = maco(objective, **{**SHORT, "custom_shape": shape})
    assert image.shape == transparency.shape == (3, *shape)
    assert image.isfinite().all()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(channels):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU()).eval()
    image, _ = maco(Objective.channel(model, 0, 1, input_shape=(channels, 16, 16)), **SHORT)
    assert image.shape == (channels, 32, 32)


def test_whole_image_and_model_size(objective):
    image, _ = maco(objective, **{**SHORT, "nb_crops": 0, "custom_shape": None})
    assert image.shape == INPUT


def test_one_objective_over_several_layers(network):
    combined = Objective.neuron(network, "7", 0, input_shape=INPUT) - Objective.layer(
        network, "0", input_shape=INPUT
    )
    image, _ = maco(combined, **SHORT)
    assert image.isfinite().all()


def test_several_combinations_need_maco_batch(network):
    with pytest.raises(ValueError, match=r"2 combinations .* use maco_batch"):
        maco(Objective.neuron(network, "7", [0, 1], input_shape=INPUT), **SHORT)


def test_same_seed_same_image_and_other_seed_another(objective):
    first, second, other = (maco(objective, **SHORT, seed=seed)[0] for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other, atol=0.05)


def test_global_random_state_plays_no_part(objective):
    torch.manual_seed(1)
    first, _ = maco(objective, **SHORT)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second, _ = maco(objective, **SHORT)
    assert torch.equal(first, second)
    maco(objective, **SHORT)
    torch.manual_seed(1)
    maco(objective, **SHORT)
    assert torch.equal(state, torch.get_rng_state())


def recorded_run(objective, **settings):
    """Images and transparencies of a run, and every initial phase, box and noise."""
    draws = {"phase": [], "boxes": [], "noise": []}

    def start(phases):
        draws["phase"].append(phases.state.detach().clone())
        return phases

    def crop(images, boxes, *args, transparency, **settings):
        if images.requires_grad:  # not the views that the run is planned with
            draws["boxes"].append(boxes)
            noise = random_crops(torch.zeros_like(images), boxes, *args, **settings)
            draws["noise"].append(noise.unflatten(0, boxes.shape[:2]))
        return random_crops(images, boxes, *args, transparency=transparency, **settings)

    sizes = {name: SHORT[name] for name in ("nb_crops", "custom_shape")}
    injected = InjectedSettings(**sizes, **settings, start=start, crops={"crop": crop})
    result = draw_batches(Run(objective, injected, progress=False))
    return result, {name: torch.stack(values) for name, values in draws.items()}


def test_alone_or_in_a_batch(network):
    together = Objective.neuron(network, "7", [2, 3, 7], input_shape=INPUT)
    batch, batch_draws = recorded_run(together, nb_steps=8)
    assert batch.names == ["Neuron#7_2", "Neuron#7_3", "Neuron#7_7"]
    assert batch.scores.shape == (3, 8)
    for n, index in enumerate([2, 3, 7]):
        alone, draws = recorded_run(
            Objective.neuron(network, "7", index, input_shape=INPUT), nb_steps=8
        )
        image, transparency = alone.images[0], alone.transparencies[0]
        for name in draws:
            assert torch.equal(draws[name][:, 0], batch_draws[name][:, n]), name
        assert (batch.images[n] - image).abs().max() <= 1e-3 * image.abs().max()
        assert (batch.transparencies[n] - transparency).abs().max() <= 1e-3 * transparency.max()
    assert not torch.equal(batch_draws["phase"][:, 0], batch_draws["phase"][:, 1])
    assert not torch.equal(batch_draws["boxes"][:, 0], batch_draws["boxes"][:, 1])


def test_batch_size_does_not_matter(network):
    objective = Objective.neuron(network, "7", range(5), input_shape=INPUT)
    whole = maco_batch(objective, **SHORT)
    parts = maco_batch(objective, **SHORT, batch_size=2)
    assert whole.names == parts.names
    assert (whole.images - parts.images).abs().max() <= 1e-3 * whole.images.abs().max()
    assert (whole.scores - parts.scores).abs().max() <= 1e-3 * whole.scores.abs().max()


@pytest.mark.parametrize("shape", [(128, 128), (97, 225)])
def test_around_the_network_threads_change_no_bit(shape):
    identity = Objective.layer(nn.Identity().eval(), "", input_shape=(3, 64, 64))
    settings = {**SHORT, "nb_steps": 3, "nb_crops": 5, "custom_shape": shape}
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(maco(identity, **settings))
    finally:
        torch.set_num_threads(threads)
    for image, transparency in results[1:]:
        assert torch.equal(image, results[0][0])
        assert torch.equal(transparency, results[0][1])


def test_number_of_threads(objective):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, one_draws = recorded_run(objective, nb_steps=8)
        torch.set_num_threads(2)
        two, two_draws = recorded_run(objective, nb_steps=8)
    finally:
        torch.set_num_threads(threads)
    for name in one_draws:
        assert torch.equal(one_draws[name], two_draws[name]), name
    assert (one.images - two.images).abs().max() <= 1e-3 * one.images.abs().max()


def test_model_is_left_as_it_was(network):
    network.train()
    network[0].register_forward_hook(lambda *_: None)
    network[0].weight.requires_grad_(False)
    before = fingerprint(network)
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    with pytest.warns(UserWarning, match="training mode"):
        maco(objective, **SHORT)
    assert_same(before, fingerprint(network))


def test_model_is_left_as_it_was_after_an_error(network):
    before = fingerprint(network)

    def fail(report):
        if report.step == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        maco(Objective.neuron(network, "7", 3, input_shape=INPUT), **SHORT, callback=fail)
    assert_same(before, fingerprint(network))


def test_results_of_a_batch_come_as_they_finish(network):
    objective = Objective.neuron(network, "7", range(5), input_shape=INPUT)
    steps, parts = [], []

    def keep(part):
        parts.append((len(steps), part))

    whole = maco_batch(
        objective, **SHORT, batch_size=2, callback=lambda _: steps.append(0), on_result=keep
    )
    assert [taken for taken, _ in parts] == [4, 8, 12]
    assert [name for _, part in parts for name in part.names] == whole.names
    for index, field in ((0, whole.images), (1, whole.transparencies), (3, whole.scores)):
        assert torch.equal(torch.cat([part[index] for _, part in parts]), field)
    with pytest.raises(TypeError, match="on_result must be a function"):
        maco_batch(objective, **SHORT, on_result=3)


def test_callback_sees_images_and_can_stop(objective):
    seen = []

    def stop(report):
        seen.append((report.step, report.images.clone(), report.scores))
        return report.step == 1

    image, _ = maco(objective, **SHORT, callback=stop)
    assert [step for step, _, _ in seen] == [0, 1]
    assert torch.equal(seen[-1][1][0], image)


def test_save_every(objective):
    images, transparencies = maco(objective, **{**SHORT, "nb_steps": 5}, save_every=2)
    assert images.shape == transparencies.shape == (3, 3, 32, 32)
    final, transparency = maco(objective, **{**SHORT, "nb_steps": 5})
    assert torch.equal(images[-1], final)
    assert torch.equal(transparencies[-1], transparency)
    assert (transparencies[1] >= transparencies[0]).all()


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_inside_inference_mode(network, context):
    expected, _ = maco(Objective.channel(network, 3, 2, input_shape=INPUT), **SHORT)
    photographs = torch.rand(2, 3, 32, 32)
    with context():
        objective = Objective.channel(network, 3, 2, input_shape=INPUT)
        image, _ = maco(objective, **SHORT)
        spectrum = Spectrum.from_images(photographs, progress=False)
    assert torch.equal(image, expected)
    with context():
        maco(objective, maco_dataset=spectrum, **SHORT)
    assert maco(objective, maco_dataset=spectrum, **SHORT)[0].isfinite().all()


def test_threads_that_share_a_model_wait_for_each_other(network):
    before = fingerprint(network)
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    images = []
    threads = [
        threading.Thread(target=lambda: images.append(maco(objective, **SHORT)[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 4
    for image in images[1:]:
        assert torch.equal(image, images[0])
    assert_same(before, fingerprint(network))


def test_training_mode_is_told_once_and_at_the_users_line(network):
    network.train()
    objective = Objective.neuron(network, "7", [1, 2], input_shape=INPUT)
    with pytest.warns(UserWarning, match="training mode") as told:
        maco_batch(objective, **SHORT | {"nb_crops": 0}, batch_size=1)
    assert [warning.filename for warning in told] == [__file__]


def test_report_images_are_for_the_callback(objective):
    reports = []
    maco(objective, **SHORT, callback=reports.append)
    with pytest.raises(RuntimeError, match="during the callback"):
        _ = reports[0].images


def test_half_precision_function():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).bfloat16().eval()
    objective = Objective.from_callable(
        model, lambda x: model(x).mean((1, 2, 3)), input_shape=INPUT
    )
    assert maco(objective, **SHORT)[0].isfinite().all()


def test_batch_that_does_not_come_first_is_refused():
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(3, 6)

        def forward(self, x):
            return self.embed(x.flatten(2).permute(2, 0, 1))  # (T, B, C)

    with pytest.raises(ValueError, match="batch must come first"):
        Objective.channel(TimeFirst().eval(), "embed", 1, input_shape=INPUT)


def test_missing_gradient_is_reported(network):
    with torch.no_grad():
        network[3].bias.fill_(-100)
        network[7].bias.fill_(1)
    with pytest.warns(RuntimeWarning, match=r"gradient was zero .* Neuron#7_3: the unit is dead"):
        maco(Objective.neuron(network, "7", 3, input_shape=INPUT), **SHORT)


def test_score_without_a_gradient_is_refused():
    objective = Objective.from_callable(None, lambda x: x.detach().mean(), input_shape=INPUT)
    with pytest.raises(ValueError, match="does not depend on the image"):
        maco(objective, **SHORT)


def test_from_callable(network):
    def score(images):
        return network(images)[:, 3] / 10

    by_name = Objective.neuron(network, "7", 3, names="same", input_shape=INPUT)
    by_function = Objective.from_callable(network, score, names="same", input_shape=INPUT)
    assert torch.allclose(
        maco(by_name, **SHORT)[0], maco(by_function, **SHORT)[0], rtol=1e-3, atol=1e-3
    )


def test_positional_order_of_xplique_1(objective):
    old = maco(objective, None, 4, 0.1, 0.3, 3, (0, 1), (32, 32), progress=False)
    new = maco(objective, None, None, 4, 0.1, 0.3, 3, (0, 1), (32, 32), progress=False)
    assert torch.equal(old[0], new[0])


def test_reversed_values_range_is_sorted(objective):
    assert torch.equal(
        maco(objective, **SHORT, values_range=(3, -2))[0],
        maco(objective, **SHORT, values_range=(-2, 3))[0],
    )


def test_spectrum_with_other_channels_is_refused(objective):
    gray = Spectrum.from_images(torch.rand(2, 1, 16, 16))
    with pytest.raises(ValueError, match="channel"):
        maco(objective, maco_dataset=gray, **SHORT)


def test_spectrum_from_tensors(objective):
    photographs = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    image, _ = maco(objective, maco_dataset=photographs, **SHORT)
    default, _ = maco(objective, **SHORT)
    assert not torch.allclose(image, default, atol=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nb_steps": 0}, "nb_steps must be at least 1"),
        ({"custom_shape": (32, 32, 3)}, r"custom_shape must be \(height, width\)"),
        ({"values_range": 1}, "values_range must be two numbers"),
        ({"values_range": ("a", "b")}, "values_range must be two numbers"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"nb_crops": -1}, "nb_crops must be at least 0"),
        ({"custom_shape": (1, 32)}, "at least 2 x 2"),
        ({"values_range": (1, 1)}, "values_range"),
        ({"values_range": (0, float("inf"))}, "values_range"),
        ({"values_range": (float("nan"), 1)}, "values_range"),
        ({"noise_intensity": -0.1}, "noise_intensity"),
        ({"noise_intensity": lambda _: float("nan")}, "noise_intensity"),
        ({"box_size": float("inf")}, "box_size"),
        ({"learning_rate": -1}, "learning_rate"),
        (
            {"preset": "lucid"},
            r"preset must be one of \['fast', 'horama', 'paper', 'pyramid', 'quick', 'small', "
            r"'xplique'\]",
        ),
    ],
)
def test_mistakes_are_explained(objective, settings, message):
    with pytest.raises(ValueError, match=message):
        maco(objective, **{**SHORT, **settings})


def test_mistaken_types_are_explained(objective, network):
    with pytest.raises(TypeError, match="must be an Objective, got Sequential"):
        maco(network, **SHORT)
    with pytest.raises(TypeError, match=r"got fvfast\.lucent\.optvis\.objective\.Objective\."):
        maco(lucent_objectives.channel("layer", 0), **SHORT)
    with pytest.raises(TypeError, match="box_size must be a number"):
        maco(objective, **SHORT, box_size="large")
    with pytest.raises(TypeError, match="optimizer must be"):
        maco(objective, optimizer="adam", **SHORT)
    for argument, value in (
        ("nb_steps", 2.0),
        ("nb_steps", True),
        ("nb_crops", 1.5),
        ("custom_shape", (32.5, 32)),
        ("seed", 1.5),
        ("seed", None),
        ("save_every", 1.5),
        ("callback", 3),
    ):
        with pytest.raises(TypeError, match=f"{argument}.* must be"):
            maco(objective, **{**SHORT, argument: value})
    with pytest.raises(TypeError, match=r"maco\(\): .*crops"):
        maco(objective, crops=3)


def test_one_number_is_a_square(objective):
    assert maco(objective, **{**SHORT, "custom_shape": 24})[0].shape == (3, 24, 24)


def test_sizes_may_be_multiples_of_the_networks(network):
    objective = Objective.layer(network, 0, input_shape=(3, 20, 24))
    assert maco(objective, **{**SHORT, "custom_shape": "3x"})[0].shape == (3, 60, 72)
    (images,), _ = optimize(objective, nb_steps=1, custom_shape="1x", progress=False)
    assert images.shape == (1, 3, 20, 24)
    for text in ("0x", "2 x", "x2", "2.5x", "large", "12", "²x"):
        with pytest.raises(ValueError, match=r'custom_shape must be .* such as "2x" for twice'):
            maco(objective, **{**SHORT, "custom_shape": text})


def test_data_set_is_read_after_everything_else_is_checked(objective, network):
    def images():
        raise AssertionError("the data set was read")
        yield

    several = Objective.neuron(network, "7", [0, 1], input_shape=INPUT)
    for call, error in (
        (lambda: maco(several, maco_dataset=images(), **SHORT), ValueError),
        (lambda: maco(objective, "adam", images(), **SHORT), TypeError),
        (lambda: maco(objective, maco_dataset=images(), **SHORT, device="gpu"), ValueError),
        (lambda: maco_batch(objective, maco_dataset=images(), **SHORT, batch_size=0), ValueError),
    ):
        with pytest.raises(error):
            call()


def test_objective_can_be_used_again(objective):
    expected = copy.deepcopy(objective.names), list(objective.multipliers)
    maco(objective, **SHORT)
    maco(objective, **SHORT)
    assert (objective.names, objective.multipliers) == expected


def test_boxes_follow_their_distribution():
    count = 20_000
    boxes = draw_boxes(0.4, count, seed=1, identities=[0], step=0)[0]
    sides = boxes[:, 2] - boxes[:, 0]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert torch.allclose(boxes[:, 3] - boxes[:, 1], sides, atol=1e-6)
    # Five standard errors of the mean and of the standard deviation.
    for values, mean, deviation in ((sides, 0.4, 0.05), (centers, 0.5, 0.15)):
        error = 5 * deviation / values.numel() ** 0.5
        assert abs(float(values.mean()) - mean) < error
        assert abs(float(values.std()) - deviation) < error
    uniform = draw_boxes(
        0.4, count, seed=1, identities=[0], step=0, distribution=BoxDistribution("uniform", 0.1)
    )[0]
    sides = uniform[:, 2] - uniform[:, 0]
    assert 0.3 - 1e-6 <= sides.min() < 0.301 < 0.499 < sides.max() <= 0.5 + 1e-6
    smallest = draw_boxes(0.0, count, seed=1, identities=[0], step=0)[0]
    assert torch.allclose((smallest[:, 2] - smallest[:, 0]).min(), torch.tensor(0.05), atol=1e-6)


def test_regularizers_see_the_whole_image(objective):
    seen = []

    def penalty(images):
        seen.append(images.shape)
        return images.square().mean((1, 2, 3))

    maco(objective, **SHORT, regularizers=penalty)
    assert seen == [(1, 3, 32, 32)] * SHORT["nb_steps"]


@pytest.mark.parametrize("optimizer", [None, torch.optim.NAdam])
def test_a_regularizer_weighs_against_the_score(objective, optimizer):
    """The total variation falls or rises with it, and a penalty of nothing changes no bit."""
    settings = {**SHORT, "nb_steps": 24, "optimizer": optimizer}
    images = [
        maco(objective, **settings, regularizers=regularizers)[0]
        for regularizers in (None, *map(total_variation_reg, (0.0, 10.0, -10.0)))
    ]
    assert torch.equal(images[0], images[1])
    without, _, less, more = (
        sum(image.diff(dim=axis).abs().sum() for axis in (1, 2)) for image in images
    )
    assert less < without < more


def test_settings_have_the_names_and_defaults_of_the_functions():
    """So a new setting reaches all of them."""

    def defaults(function):
        parameters = inspect.signature(function).parameters
        return {name: parameter.default for name, parameter in parameters.items()}

    calls = {"objective", "progress", "callback", "save_every", "device"}
    batches = {"batch_size", "on_result", "keep"}
    settings = defaults(MacoSettings)
    for function, others in ((maco, calls), (maco_batch, calls | batches)):
        given = defaults(function)
        assert {name: given[name] for name in given if name not in others} == settings
    for function, described in ((optimize, OptimizeSettings), (accentuate, AccentuateSettings)):
        given = defaults(function)
        assert {name: given[name] for name in given if name not in calls} == defaults(described)
