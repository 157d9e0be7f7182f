"""Guides: distributions of activations that pictures are drawn towards."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from torch import nn

from fvfast import Guide, Objective, maco, maco_batch, optimize
from fvfast.objectives.guides.blocks import first_and_last_block
from fvfast.objectives.guides.distributions import MomentScore, SortMatchingScore
from fvfast.plot import plot_grid, plot_maco

SMALL = {"nb_steps": 4, "nb_crops": 2, "custom_shape": 24, "progress": False, "box_size": 0.9}


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU())


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(*[nn.Sequential(block(3, 4)), nn.Sequential(block(4, 6))]),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.1, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.fixture
def objective(model):
    return Objective.neuron(model, -1, [0, 1], input_shape=(3, 16, 16))


@pytest.fixture
def images():
    return torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("positions", [30, 47])
def test_sort_matching_is_its_formula(axis, positions):
    """In float64, with its gradient: float32 rounds each of up to 6 operations by 6e-8."""
    generator = torch.Generator().manual_seed(1)
    quantiles = torch.randn(5, positions, generator=generator).sort(1).values
    deviations = torch.rand(5, generator=generator) + 0.5
    values = torch.randn(6, 5, 5, 6, generator=generator)  # two images, three views
    output = values.movedim(1, axis + 1).clone().requires_grad_()
    score = SortMatchingScore(quantiles, deviations, axis)
    scores = score.score(output, score.encode([None, None]))
    weights = torch.tensor([1.0, -2.0])
    (gradient,) = torch.autograd.grad((scores * weights).sum(), output)

    exact = values.double().flatten(2).numpy()
    ranks = (np.arange(30) + 0.5) * positions / 30 - 0.5
    wanted = np.stack(
        [np.interp(ranks, np.arange(positions), row) for row in quantiles.double().numpy()]
    )
    expected, expected_gradient = np.zeros(2), np.zeros_like(exact)
    for view in range(6):
        for channel in range(5):
            order = np.argsort(exact[view, channel])
            differences = exact[view, channel][order] - wanted[channel]
            differences /= deviations.double().numpy()[channel]
            expected[view // 3] -= (differences**2).mean() / 5 / 3
            expected_gradient[view, channel, order] = (
                -2 * differences / deviations.double().numpy()[channel] / 30 / 5 / 3
                * weights[view // 3].item()
            )  # fmt: skip
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-5)
    found = gradient.movedim(axis + 1, 1).flatten(2).numpy()
    np.testing.assert_allclose(found, expected_gradient, atol=1e-5 * abs(expected_gradient).max())


def test_moments_are_those_of_deepinversion(model, images):
    """Distances of a normalization's outputs are those of its inputs, in units of deviation."""
    normalization = model[0][1][0][1]
    seen = {}
    handle = normalization.register_forward_hook(lambda _, i, o: seen.update(i=i[0], o=o))
    model(images[:6])
    handle.remove()
    inputs = seen["i"].double().unflatten(0, (2, 3))
    means = inputs.mean((1, 3, 4)) - normalization.running_mean
    spread = inputs.var((1, 3, 4), correction=0)
    # A batch normalization adds eps to the variance that it divides by.
    unit = (normalization.running_var + normalization.eps).sqrt().double()
    expected = ((means / unit).square() + (spread.sqrt() / unit - 1).square()).mean(1)
    score = MomentScore(normalization.bias.detach(), normalization.weight.detach().abs(), 0)
    found = score.score(seen["o"], score.encode([None, None]))
    # Its scale and offset are undone here: a few roundings of float32.
    torch.testing.assert_close(found.double(), -expected, rtol=1e-5, atol=1e-6)


def test_moments_have_a_gradient_where_all_activations_are_equal():
    output = torch.ones(2, 3, 4, 4, requires_grad=True)
    score = MomentScore(torch.zeros(3), torch.ones(3), 0)
    score.score(output, score.encode([None])).sum().backward()
    assert output.grad.isfinite().all()


def test_images_are_measured(model, objective, images):
    guide = Guide.from_images(objective, images, progress=False)
    assert (
        guide.layers == ("0.0.0", "0.1.0") == tuple(first_and_last_block(model, (3, 16, 16), None))
    )
    with torch.no_grad():
        first = model[0][0](images)
    values = first.double().flatten(2)
    ranked, deviations = guide.statistics[0]
    torch.testing.assert_close(ranked, values.sort(-1).values.mean(0).float())
    # The deviation is that of the averaged ranks' mean: all values' about the channel's mean.
    expected = values.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(deviations, expected.float(), rtol=1e-5, atol=1e-6)
    halves = Guide.from_images(objective, iter([images[:7], images[7:]]), progress=False)
    for one, other in zip(guide.statistics, halves.statistics, strict=True):
        torch.testing.assert_close(one, other)
    assert guide.origin == "20 images"


def test_bytes_are_scaled_as_those_of_files(objective, images):
    pixels = ((images + 1) * 127.5).round().byte()
    guide = Guide.from_images(objective, pixels, progress=False)
    expected = Guide.from_images(objective, pixels.float() / 127.5 - 1, progress=False)
    for one, other in zip(guide.statistics, expected.statistics, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Drawing(nn.Module):
    """Draws random numbers in evaluation mode, from the global generators."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        noise = 0.1 * torch.randn_like(images) + float(np.random.rand())
        return self.model(images + noise)


def test_what_a_network_draws_is_none_of_the_users(model, images):
    objective = Objective.neuron(Drawing(model).eval(), -1, 0, input_shape=(3, 16, 16))
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (Guide.from_images(objective, images, progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    for one, other in zip(first.statistics, second.statistics, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_guide_of_inference_mode_guides_outside_of_it(objective, images):
    expected = Guide.from_images(objective, images, progress=False)
    with torch.inference_mode():
        guide = Guide.from_images(objective, images, progress=False)
        maco_batch(objective, guide=guide, **SMALL)
    for one, other in zip(guide.statistics, expected.statistics, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    maco_batch(objective, guide=guide, **SMALL)


def test_activations_that_are_not_finite_are_refused(model, objective, images):
    model[0][1][0][0].bias.data[2] = float("inf")
    with pytest.raises(ValueError, match=r"layer '0\.1\.0' puts out numbers that are not finite"):
        Guide.from_images(objective, images, progress=False)


def test_a_folder_is_measured_as_the_model_takes_images(objective, images, tmp_path):
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pixels[:5]):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    folder = Guide.from_images(objective, tmp_path, progress=False)
    tensor = torch.from_numpy(pixels[:5]).permute(0, 3, 1, 2).float() / 127.5 - 1
    expected = Guide.from_images(objective, tensor, progress=False)
    for one, other in zip(folder.statistics, expected.statistics, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert folder.origin == f"5 images in {tmp_path}"


@pytest.mark.parametrize("make", ["images", "batch_norm"])
def test_a_guided_picture_is_closer_and_keeps_its_name(objective, images, make):
    guide = (
        Guide.from_images(objective, images, progress=False)
        if make == "images"
        else Guide.from_batch_norm(objective)
    )
    assert guide.guided(objective).combination_names == objective.combination_names
    apart = guide.guided(objective)
    results = [maco_batch(objective, guide=one, **SMALL) for one in (None, guide.weighted(200.0))]
    distances = []
    for result in results:
        tapped, scorer, *_ = apart.compile()
        plain, plain_scorer, *_ = objective.compile()
        with torch.no_grad():
            views = torch.nn.functional.interpolate(result.images, (16, 16), mode="bilinear")
            distances.append((plain_scorer(plain(views)) - scorer(tapped(views))).tolist())
    assert all(guided < free for free, guided in zip(*distances, strict=True))
    assert results[0].guide == ""
    assert results[1].guide == guide.origin


def test_a_guide_of_no_weight_changes_nothing(objective, images):
    guide = Guide.from_images(objective, images, weight=0, progress=False)
    one = Objective.neuron(objective.model, -1, 0, input_shape=(3, 16, 16))
    free, guided = (maco(one, guide=given, **SMALL).image for given in (None, guide))
    torch.testing.assert_close(free, guided, rtol=1e-4, atol=1e-4)


def test_optimize_takes_a_guide(objective, images):
    guide = Guide.from_images(objective, images, progress=False)
    result = optimize(objective, nb_steps=2, custom_shape=32, progress=False, guide=guide)
    assert "guided by 20 images" in repr(result)


def test_the_model_comes_back_as_it_was(model, objective, images):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    with pytest.warns(UserWarning, match="training mode"):
        Guide.from_images(objective, images, progress=False)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_weight_is_in_units_of_the_activation(model, objective):
    """Whatever share of its layer a unit is."""
    assert objective.unit == pytest.approx(1 / 5)
    assert (2 * objective - objective).unit == pytest.approx(3 / 5)
    assert Objective.channel(model, "0.1", 0, input_shape=(3, 16, 16)).unit == pytest.approx(1 / 6)
    assert Objective.layer(model, "0.1", input_shape=(3, 16, 16)).unit == 1


def test_files_give_the_guide_back(objective, images, tmp_path):
    guide = Guide.from_images(objective, images, weight=2.5, progress=False)
    guide.save(tmp_path / "look.safetensors")
    again = Guide.load(tmp_path / "look.safetensors")
    assert again.described() == guide.described()
    for one, other in zip(guide.statistics, again.statistics, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_damaged_files_are_refused(objective, images, tmp_path):
    path = tmp_path / "look.safetensors"
    Guide.from_images(objective, images, progress=False).save(path)
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged"):
            Guide.load(path)
    path.write_bytes(content.replace(b"fvfast_guide", b"fvfast_other"))
    with pytest.raises(ValueError, match="is not a guide"):
        Guide.load(path)
    path.write_bytes(content.replace(b"0.second", b"0.fourth"))
    with pytest.raises(ValueError, match="no whole guide"):
        Guide.load(path)


def test_a_guide_is_shown_in_a_line(objective, images):
    guide = Guide.from_images(objective, images, weight=2, progress=False)
    assert repr(guide) == "Guide(20 images, layers: 0.0.0, 0.1.0, weight 2)"
    many = dataclasses.replace(guide, layers=guide.layers * 3, origin="")
    assert repr(many) == "Guide(images, layers: 6, weight 2)"


def test_what_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        Guide.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Guide.load(tmp_path / "nowhere")


def test_the_plot_says_what_guided(objective, images):
    guide = Guide.from_images(objective, images, progress=False)
    one = Objective.neuron(objective.model, -1, 0, input_shape=(3, 16, 16))
    figure, ax = pyplot.subplots()
    plot_maco(maco(one, guide=guide, **SMALL), ax=ax)
    assert [text.get_text() for text in ax.texts] == ["guided by 20 images"]
    pyplot.close(figure)
    grid = plot_grid(maco_batch(objective, guide=guide, **SMALL))
    assert grid.get_supxlabel() == "guided by 20 images"
    pyplot.close(grid)


def test_the_record_says_what_guided(objective, images):
    from fvfast.run.maco_settings import MacoSettings

    guide = Guide.from_images(objective, images, weight=3, progress=False)
    record = json.loads(json.dumps(MacoSettings(guide=guide).described()))
    assert record["guide"] == {
        "kind": "images", "of": "20 images", "layers": ["0.0.0", "0.1.0"], "weight": 3.0
    }  # fmt: skip
    assert "guide" not in MacoSettings().described()


def test_bad_arguments(model, objective, images, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = Objective.from_callable(None, lambda x: x.mean(), input_shape=(3, 16, 16))
    plain = Objective.neuron(
        nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), -1, 0, input_shape=(3, 4, 4)
    )
    for error, message, call in [
        (ValueError, "at least 0, got -1", lambda: Guide.from_images(objective, images, weight=-1)),
        (TypeError, "weight must be a number", lambda: Guide.from_batch_norm(objective, weight="")),
        (TypeError, "takes an Objective", lambda: Guide.from_images(model, images)),
        (TypeError, "takes an Objective", lambda: Guide.from_batch_norm(model)),
        (ValueError, "needs an objective with a network", lambda: Guide.from_images(nothing, [])),
        (ValueError, "there is no image", lambda: Guide.from_images(objective, [])),
        (ValueError, "there is no image", lambda: Guide.from_images(objective, images[:0])),
        (ValueError, "no image files", lambda: Guide.from_images(objective, empty)),
        (NotADirectoryError, "not a folder", lambda: Guide.from_images(objective, "nowhere")),
        (ValueError, "has images of shape|expected \\(N, 3",
         lambda: Guide.from_images(objective, images[:, :2])),
        (ValueError, "not finite", lambda: Guide.from_images(objective, images / 0)),
        (TypeError, "of type int", lambda: Guide.from_images(objective, [1, 2])),
        (TypeError, "of type int", lambda: Guide.from_images(objective, 1)),
        (ValueError, "one position", lambda: Guide.from_images(objective, images, layers=[-1])),
        (ValueError, "no layer 'c'", lambda: Guide.from_images(objective, images, layers="c")),
        (ValueError, "at least one layer", lambda: Guide.from_images(objective, images, layers=[])),
        (ValueError, "no layer whose output", lambda: Guide.from_images(plain, images)),
        (ValueError, "no batch normalization", lambda: Guide.from_batch_norm(plain)),
        (TypeError, "guide must be a fvfast.Guide", lambda: maco(objective, guide="photos")),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def test_a_guide_of_another_network_is_refused(objective, images):
    guide = Guide.from_images(objective, images, progress=False)
    torch.manual_seed(0)
    other = nn.Sequential(
        nn.Sequential(nn.Sequential(block(3, 4)), nn.Sequential(block(4, 7))),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 5),
    ).eval()  # fmt: skip
    one = Objective.neuron(other, -1, 0, input_shape=(3, 16, 16))
    with pytest.raises(ValueError, match=r"made for 6 channels in layer '0\.1\.0', which has 7"):
        maco(one, guide=guide, **SMALL)
