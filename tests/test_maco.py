import copy
import functools
import threading

import numpy as np
import pytest
import torch
from engine.test_state import assert_same, fingerprint
from torch import nn

from fvfast import Geometric, Linear, Objective, Spectrum, maco, maco_batch, maco_run
from fvfast.ops.boxes import BoxDistribution, draw_boxes
from fvfast.presets import PRESETS

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


def recorded_draws(monkeypatch, run):
    """Every initial phase, box and noise of a run."""
    draws = {"phase": [], "boxes": [], "noise": []}
    start, crop = (getattr(maco_run, name) for name in ("init_maco_buffer", "random_crops"))

    def record_start(*args, **settings):
        magnitude, phase = start(*args, **settings)
        draws["phase"].append(phase.detach().clone())
        return magnitude, phase

    def record_crops(images, boxes, *args, alpha, **settings):
        if not images.requires_grad:  # the views that the run is planned with
            return crop(images, boxes, *args, alpha=alpha, **settings)
        draws["boxes"].append(boxes)
        noise = crop(torch.zeros_like(images), boxes, *args, **settings)
        draws["noise"].append(noise.unflatten(0, boxes.shape[:2]))
        return crop(images, boxes, *args, alpha=alpha, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(maco_run, "init_maco_buffer", record_start)
        patch.setattr(maco_run, "random_crops", record_crops)
        result = run()
    return result, {name: torch.stack(values) for name, values in draws.items()}


def test_alone_or_in_a_batch(network, monkeypatch):
    settings = {**SHORT, "nb_steps": 8}
    together = Objective.neuron(network, "7", [2, 3, 7], input_shape=INPUT)
    batch, batch_draws = recorded_draws(monkeypatch, lambda: maco_batch(together, **settings))
    assert batch.names == ["Neuron#7_2", "Neuron#7_3", "Neuron#7_7"]
    assert batch.scores.shape == (3, 8)
    for n, index in enumerate([2, 3, 7]):
        (image, transparency), draws = recorded_draws(
            monkeypatch,
            functools.partial(
                maco, Objective.neuron(network, "7", index, input_shape=INPUT), **settings
            ),
        )
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


def test_number_of_threads(objective, monkeypatch):
    settings = {**SHORT, "nb_steps": 8}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (one, _), one_draws = recorded_draws(monkeypatch, lambda: maco(objective, **settings))
        torch.set_num_threads(2)
        (two, _), two_draws = recorded_draws(monkeypatch, lambda: maco(objective, **settings))
    finally:
        torch.set_num_threads(threads)
    for name in one_draws:
        assert torch.equal(one_draws[name], two_draws[name]), name
    assert (one - two).abs().max() <= 1e-3 * one.abs().max()


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


def interrupt_at(step):
    def interrupt(report):
        if report.step == step:
            raise KeyboardInterrupt

    return interrupt


def test_interrupt_keeps_the_image_so_far(network):
    before = fingerprint(network)
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 4 steps"):
        image, transparency = maco(objective, **SHORT, callback=interrupt_at(1))
    assert_same(before, fingerprint(network))
    # The box schedule depends on nb_steps, so two steps alone need the same one.
    two, two_transparency = maco(
        objective,
        **{**SHORT, "nb_steps": 2},
        box_size=lambda step: float(np.linspace(0.5, 0.05, 4)[step]),
    )
    assert torch.equal(image, two)
    assert torch.equal(transparency, two_transparency)


def test_interrupt_before_the_first_step(monkeypatch, objective):
    def interrupt(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(maco_run, "draw_boxes", interrupt)
    with pytest.warns(RuntimeWarning, match="interrupted after 0"):
        image, transparency = maco(objective, **SHORT)
    assert image.isfinite().all()
    assert not transparency.any()


def test_interrupted_batch_returns_what_was_begun(network):
    objective = Objective.neuron(network, "7", range(6), input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        result = maco_batch(objective, **SHORT, batch_size=2, callback=interrupt_at(1))
    assert len(result.names) == len(result.images) == 2
    assert result.scores[:, :2].isfinite().all()
    assert result.scores[:, 2:].isnan().all()


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


class Failing(nn.Module):
    """Gives NaN for some images once it is told to."""

    def __init__(self, network, failing):
        super().__init__()
        self.network = network
        self.failing = failing
        self.fails = False

    def forward(self, x):
        y = self.network(x)
        if self.fails:
            bad = torch.zeros(len(y), 1, dtype=torch.bool)
            bad[self.failing] = True
            y = torch.where(bad, float("nan"), y)
        return y

    def fail_after(self, step):
        """Callback that lets it fail in the steps after one."""

        def watch(report):
            self.fails = report.step >= step

        return watch


def test_not_finite_stops_and_keeps_the_last_finite_image(network):
    model = Failing(network, slice(None)).eval()
    objective = Objective.neuron(model, "", 3, input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="step 2: the score or its gradient is not finite"):
        image, transparency = maco(objective, **SHORT, callback=model.fail_after(1))
    assert image.isfinite().all()
    assert transparency.isfinite().all()
    assert transparency.any()


def test_one_image_that_is_not_finite_does_not_stop_the_others(network):
    settings = {**SHORT, "nb_crops": 1}
    good = maco_batch(Objective.neuron(network, "7", [1, 2], input_shape=INPUT), **settings)
    model = Failing(network, slice(0, 1)).eval()
    objective = Objective.neuron(model, "network.7", [1, 2], input_shape=INPUT)
    # The images' identities follow their names.
    objective.names = [["Neuron#7_1", "Neuron#7_2"]]
    objective.layers = Objective.neuron(model, "", [1, 2], input_shape=INPUT).layers
    with pytest.warns(RuntimeWarning, match=r"not finite for Neuron#7_1; "):
        result = maco_batch(objective, **settings, callback=model.fail_after(1))
    assert result.images.isfinite().all()
    assert torch.allclose(result.images[1], good.images[1], atol=1e-5)
    assert not torch.allclose(result.images[0], good.images[0], atol=1e-5)


class Overflowing(torch.optim.SGD):
    """Writes NaN into the variable in its third step."""

    def __init__(self, params):
        super().__init__(params, lr=1.0)
        self.steps = 0

    def step(self, closure=None):
        super().step(closure)
        self.steps += 1
        if self.steps == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))


@pytest.mark.parametrize("nb_steps", [3, 5])
def test_an_update_that_is_not_finite_is_undone(objective, nb_steps):
    settings = {**SHORT, "nb_steps": nb_steps}
    with pytest.warns(RuntimeWarning, match="step 2: the image after its update is not finite"):
        images, transparencies = maco(objective, Overflowing, **settings, save_every=1)
    assert images.isfinite().all()
    assert transparencies.isfinite().all()
    assert torch.equal(images[-1], images[1])


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


def test_interrupt_between_batches_keeps_the_finished_ones(network):
    made = []

    def optimizer(parameters):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return torch.optim.Adam(parameters)

    objective = Objective.neuron(network, "7", range(4), input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 4 images"):
        result = maco_batch(objective, optimizer, **SHORT, batch_size=1)
    assert result.names == ["Neuron#7_0", "Neuron#7_1"]
    assert len(result.images) == len(result.scores) == 2


def test_error_in_a_later_batch_keeps_the_finished_ones(network):
    before = fingerprint(network)

    class FailsLater(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.fails = False

        def forward(self, x):
            if self.fails:
                raise KeyError("out of luck")
            return self.network(x)

    model = FailsLater().eval()
    objective = Objective.neuron(model, "", [1, 2], input_shape=INPUT)

    def fail_in_the_second_batch(report):
        model.fails = report.names == objective.combination_names[1:]

    with (
        pytest.warns(RuntimeWarning, match="failed after 1 of 2 images"),
        pytest.raises(KeyError, match="out of luck") as caught,
    ):
        maco_batch(objective, **SHORT, batch_size=1, callback=fail_in_the_second_batch)
    assert caught.value.finished.names == objective.combination_names[:1]
    assert_same(before, fingerprint(network))


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
        maco_batch(objective, **SHORT, batch_size=1)
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
        ({"preset": "lucid"}, r"preset must be one of \['fast', 'horama', 'paper', 'xplique'\]"),
    ],
)
def test_mistakes_are_explained(objective, settings, message):
    with pytest.raises(ValueError, match=message):
        maco(objective, **{**SHORT, **settings})


def test_mistaken_types_are_explained(objective, network):
    with pytest.raises(TypeError, match="must be an Objective, got Sequential"):
        maco(network, **SHORT)
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


def test_objective_can_be_used_again(objective):
    expected = copy.deepcopy(objective.names), list(objective.multipliers)
    maco(objective, **SHORT)
    maco(objective, **SHORT)
    assert (objective.names, objective.multipliers) == expected


def test_boxes_follow_their_distribution():
    count = 20_000
    boxes = draw_boxes(0.4, count, seed=1, images=[0], step=0)[0]
    sides = boxes[:, 2] - boxes[:, 0]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert torch.allclose(boxes[:, 3] - boxes[:, 1], sides, atol=1e-6)
    # Five standard errors of the mean and of the standard deviation.
    for values, mean, deviation in ((sides, 0.4, 0.05), (centers, 0.5, 0.15)):
        error = 5 * deviation / values.numel() ** 0.5
        assert abs(float(values.mean()) - mean) < error
        assert abs(float(values.std()) - deviation) < error
    uniform = draw_boxes(
        0.4, count, seed=1, images=[0], step=0, distribution=BoxDistribution("uniform", 0.1)
    )[0]
    sides = uniform[:, 2] - uniform[:, 0]
    assert 0.3 - 1e-6 <= sides.min() < 0.301 < 0.499 < sides.max() <= 0.5 + 1e-6
    smallest = draw_boxes(0.0, count, seed=1, images=[0], step=0)[0]
    assert torch.allclose((smallest[:, 2] - smallest[:, 0]).min(), torch.tensor(0.05), atol=1e-6)
