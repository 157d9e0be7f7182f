"""The crops, objectives, optimizer and whole run of Xplique 2.0, reproduced."""

import contextlib

import pytest
import torch
from emulated import ORDERS, emulated
from injected_runs import golden_settings
from selection import short_for

from fvfast import Objective
from fvfast.ops.crop_resize import crop_and_resize, random_crops
from fvfast.parametrizations.optimizers import ascend, keras_nadam
from fvfast.run.run import Run


def assert_close(actual, expected, relative):
    """Compare relative to the array's largest magnitude: the arrays cross zero."""
    error = (actual.double() - expected.double()).abs().max()
    assert error <= relative * expected.abs().max(), f"{error / expected.abs().max():.2e}"


def test_crops_and_their_gradient(golden):
    image = golden["image"][None].clone().requires_grad_()
    crops = crop_and_resize(image, golden["boxes"], golden["crops"].shape[-1])
    assert_close(crops, golden["crops"], 1e-5)
    crops.backward(golden["crops_cotangent"])
    assert_close(image.grad[0], golden["crops_image_grad"], 1e-4)


def test_model_outputs(golden):
    model = golden.model()
    with torch.no_grad():
        assert_close(model[:4](golden["model_input"]), golden["model_conv2"], 1e-5)
        assert_close(model(golden["model_input"]), golden["model_logits"], 1e-5)


def objectives(golden, model):
    row, column, channel = golden["neuron_yxc"].tolist()
    shape = tuple(golden["model_input"].shape[1:])
    return {
        "layer_magnitude": Objective.layer(model, "conv2", input_shape=shape),
        "layer_mean": Objective.layer(model, "conv2", reducer="mean", input_shape=shape),
        "channel_5": Objective.channel(model, "conv2", 5, input_shape=shape),
        "neuron_conv2": Objective.neuron(
            model, "conv2", [(channel, row, column)], input_shape=shape
        ),
        "neuron_logit_3": Objective.neuron(model, "logits", 3, input_shape=shape),
        "direction_conv2": Objective.direction(
            model, "conv2", golden["direction_conv2"], input_shape=shape
        ),
        "direction_logits": Objective.direction(
            model, "logits", golden["direction_logits"], input_shape=shape
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "layer_magnitude",
        "layer_mean",
        "channel_5",
        "neuron_conv2",
        "neuron_logit_3",
        "direction_conv2",
        "direction_logits",
    ],
)
def test_objective_values(golden, name):
    objective = objectives(golden, golden.model())[name]
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        score = function(model(golden["model_input"]))
    assert_close(score[0], golden[f"objective_{name}"], 1e-5)


def test_names_of_a_sum(golden):
    model, shape = golden.model(), tuple(golden["model_input"].shape[1:])
    combined = Objective.neuron(model, "logits", [0, 1, 2], input_shape=shape) + Objective.channel(
        model, "conv2", [3, 4], input_shape=shape
    )
    assert combined.compile()[2] == golden["names_sum"].tolist()


def test_keras_nadam(golden):
    weights, center = golden["nadam_w"], golden["nadam_c"]
    x = torch.zeros(1, *weights.shape)
    optimizer = keras_nadam([x])
    for expected in golden["nadam_x"]:
        ascend(optimizer, x, -2 * weights * (x - center))  # Keras minimized sum(w (x - c)^2)
        assert_close(x[0], expected, 1e-5)


@pytest.mark.parametrize("backend", short_for(["cpu", "emulated random"], ["cpu", *ORDERS]))
def test_whole_run(golden, backend):
    """Eight steps of maco with Xplique's own boxes and noise."""
    with emulated(backend) if backend in ORDERS else contextlib.nullcontext():
        whole_run(golden)


def whole_run(golden):
    phases, scores = [], []
    run = Run(
        objectives(golden, golden.model())["neuron_logit_3"],
        golden_settings(golden, phases, random_crops),
        callback=lambda report: scores.append(report.scores[0]),
        progress=False,
    )
    ascent = run.draw([0])
    image, transparency = ascent.images[-1][0], ascent.transparencies[-1][0]
    assert_close(torch.stack(scores), golden["run_scores"], 1e-3)
    assert_close(phases[0][0].detach(), golden["run_phase"], 1e-3)
    assert_close(image, golden["run_image"], 1e-3)
    assert_close(transparency, golden["run_alpha"], 1e-3)
