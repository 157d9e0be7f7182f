"""Lucent's README and notebooks, with the imports changed.

The calls stay as they are there; only their default number of steps is cut, and the network is
small, so channels have other numbers.
"""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import functools
import types

import numpy as np
import pytest
import torch

import fvfast.lucent.optvis.render
from fvfast.lucent.misc.io import show
from fvfast.lucent.modelzoo.util import get_model_layers
from fvfast.lucent.optvis import objectives, param, transform
from fvfast.lucent.util import set_seed

render = types.SimpleNamespace(
    render_vis=functools.partial(
        fvfast.lucent.optvis.render.render_vis, thresholds=(2,), progress=False
    ),
    ModuleHook=fvfast.lucent.optvis.render.ModuleHook,
)

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def assert_drawn(images, shape):
    """One array for the last step, with something in it."""
    assert [image.shape for image in images] == [shape]
    assert 0 <= images[0].min() < images[0].max() <= 1
    assert images[0].std() > 0.003


def test_readme(model):
    model.to(device).eval()
    assert_drawn(render.render_vis(model, "mixed4a:6"), (1, 128, 128, 3))


class TestTutorial:
    def test_layers(self, model):
        assert get_model_layers(model)[:3] == ["conv2d0", "mixed4a", "mixed4a_1x1_pre_relu_conv"]
        set_seed(137)
        first = render.render_vis(model, "mixed4a:6")
        set_seed(137)
        np.testing.assert_array_equal(first, render.render_vis(model, "mixed4a:6"))

    def test_objectives(self, model):
        obj = objectives.channel("mixed4a", 6)
        assert_drawn(render.render_vis(model, obj), (1, 128, 128, 3))
        channel = lambda n: objectives.channel("mixed4a", n)  # noqa: E731
        obj = channel(6) + channel(5)
        assert_drawn(render.render_vis(model, obj), (1, 128, 128, 3))
        obj = objectives.channel("mixed4a", 6) - objectives.channel("mixed4a", 5)
        assert_drawn(render.render_vis(model, obj), (1, 128, 128, 3))

    def test_transforms(self, model):
        obj = "mixed4a:6"
        assert_drawn(render.render_vis(model, obj, transforms=[]), (1, 128, 128, 3))
        jitter_only = [transform.jitter(8)]
        assert_drawn(render.render_vis(model, obj, transforms=jitter_only), (1, 128, 128, 3))
        all_transforms = [
            transform.pad(16),
            transform.jitter(8),
            transform.random_scale([n / 100.0 for n in range(80, 120)]),
            transform.random_rotate(
                list(range(-10, 10)) + list(range(-5, 5)) + 10 * list(range(-2, 2))
            ),
            transform.jitter(2),
        ]
        assert_drawn(render.render_vis(model, obj, transforms=all_transforms), (1, 128, 128, 3))

    def test_parametrizations(self, model):
        obj = "mixed4a:6"
        pixels = lambda: param.image(64, fft=False, decorrelate=False)  # noqa: E731
        assert_drawn(render.render_vis(model, obj, pixels), (1, 64, 64, 3))
        cppn_param_f = lambda: param.cppn(64)  # noqa: E731
        # We initialize an optimizer with lower learning rate for CPPN
        cppn_opt = lambda params: torch.optim.Adam(params, 5e-3)  # noqa: E731
        name = "mixed4a_1x1_pre_relu_conv:9"
        images = render.render_vis(
            model, name, cppn_param_f, cppn_opt, transforms=[], thresholds=[8]
        )
        assert_drawn(images, (1, 64, 64, 3))

    def test_intermediate_images(self, model):
        images = render.render_vis(model, "mixed4a:6", thresholds=(1, 2, 3, 4))
        assert len(images) == 4


def test_diversity(model):
    batch_param_f = lambda: param.image(128, batch=4)  # noqa: E731
    obj = objectives.channel("mixed4a", 7) - 1e2 * objectives.diversity("mixed4a")
    assert_drawn(render.render_vis(model, obj, batch_param_f), (4, 128, 128, 3))


class TestNeuronInteraction:
    neuron1 = ("mixed4b", 11)
    neuron2 = ("mixed4a_1x1_pre_relu_conv", 6)

    def test_sum(self, model):
        C = lambda neuron: objectives.channel(*neuron)  # noqa: E731, N806
        obj = C(self.neuron1) + C(self.neuron2)
        assert_drawn(render.render_vis(model, obj), (1, 128, 128, 3))

    def test_directions(self, model):
        direction = torch.rand(16, device=device)
        obj = objectives.direction(layer="mixed4b", direction=direction)
        assert_drawn(render.render_vis(model, obj), (1, 128, 128, 3))

    def test_aligned_interpolation(self, model):
        def interpolate_param_f():
            params, unique = param.spatial.fft_image((6, 3, 128, 128))
            shared = [
                param.lowres_tensor((6, 3, 128, 128), (1, 3, 128 // 2, 128 // 2)),
                param.lowres_tensor((6, 3, 128, 128), (1, 3, 128 // 4, 128 // 4)),
                param.lowres_tensor((6, 3, 128, 128), (1, 3, 128 // 8, 128 // 8)),
                param.lowres_tensor((6, 3, 128, 128), (2, 3, 128 // 8, 128 // 8)),
                param.lowres_tensor((6, 3, 128, 128), (1, 3, 128 // 16, 128 // 16)),
                param.lowres_tensor((6, 3, 128, 128), (2, 3, 128 // 16, 128 // 16)),
            ]
            params += [s[0][0] for s in shared]
            images = [s[1] for s in shared]
            return params, param.to_valid_rgb(
                lambda: unique() + sum(image() for image in images), decorrelate=True
            )

        obj = objectives.channel_interpolate(*self.neuron1, *self.neuron2)
        images = render.render_vis(model, obj, interpolate_param_f, thresholds=[3])
        assert_drawn(images, (6, 128, 128, 3))


def test_activation_grids(model):
    """One image for each position of a layer, that has the activations there."""
    img = torch.rand(1, 3, 64, 64)

    @torch.no_grad()
    def get_layer(model, layer, X):
        hook = render.ModuleHook(getattr(model, layer))
        model(X)
        hook.close()
        return hook.features

    acts = get_layer(model, "mixed4a", img)[0]
    acts = torch.nn.functional.adaptive_avg_pool2d(acts, 2)
    nb_cells = acts.shape[1] * acts.shape[2]

    @objectives.wrap_objective()
    def dot_compare(layer, acts, batch=1):
        def inner(T):
            pred = T(layer)[batch]
            return -(pred * acts).sum(dim=0, keepdims=True).mean()

        return inner

    vectors = acts.flatten(1)
    obj = objectives.Objective.sum(
        [dot_compare("mixed4a", vectors[:, n, None, None], batch=n) for n in range(nb_cells)]
    )
    assert obj.name == ", ".join(["dot_compare"] * 4)
    images = render.render_vis(model, obj, lambda: param.image(40, batch=nb_cells))
    assert_drawn(images, (4, 40, 40, 3))


def test_feature_inversion(model, monkeypatch):
    """The second image of the batch is a photograph; blurring reads the images themselves."""
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)

    @objectives.wrap_objective()
    def dot_compare(layer, batch=1, cossim_pow=0):
        def inner(T):
            dot = (T(layer)[batch] * T(layer)[0]).sum()
            mag = torch.sqrt(torch.sum(T(layer)[0] ** 2))
            cossim = dot / (1e-6 + mag)
            return -dot * cossim**cossim_pow

        return inner

    img = torch.rand(3, 96, 96).to(device)
    obj = objectives.Objective.sum(
        [1.0 * dot_compare("mixed4a", cossim_pow=0.5), objectives.blur_input_each_step()]
    )
    # Initialize parameterized input and stack with target image to be accessed in the objective
    params, image_f = param.image(96)

    def stacked_param_f():
        return params, lambda: torch.stack([image_f()[0], img])

    images = render.render_vis(
        model, obj, stacked_param_f, transforms=[transform.jitter(2)], thresholds=(3,),
        show_image=False, progress=False,
    )  # fmt: skip
    assert images[0].shape == (2, 96, 96, 3)
    np.testing.assert_array_equal(images[0][1], img.permute(1, 2, 0).cpu())
    show(images[0][0])
    assert [one.size for one in shown] == [(96, 96)]


def test_style_transfer(model):
    """Three images go through the network: the transfer, the content and the style."""
    content, style = torch.rand(2, 3, 64, 64)
    layers = {"content": ["mixed4b"], "style": ["conv2d0", "mixed4a"]}

    def style_transfer_param_f():
        params, image_f = param.image(64)
        return params, lambda: torch.stack([image_f()[0], content, style])

    def gram_matrix(features, normalize=True):
        channels, h, w = features.shape
        features = features.view(channels, -1)
        gram = torch.matmul(features, torch.transpose(features, 0, 1))
        return gram / (h * w) if normalize else gram

    @objectives.wrap_objective()
    def activation_difference(layer_names, transform_f=None, difference_to=1):
        def inner(T):
            image_activations = [T(name)[difference_to] for name in layer_names]
            optimization_activations = [T(name)[0] for name in layer_names]
            if transform_f is not None:
                image_activations = [transform_f(act) for act in image_activations]
                optimization_activations = [transform_f(act) for act in optimization_activations]
            pairs = zip(image_activations, optimization_activations, strict=True)
            return sum(torch.abs(a - b).mean() for a, b in pairs)

        return inner

    objective = objectives.Objective.sum(
        [
            100 * activation_difference(layers["content"], difference_to=1),
            activation_difference(layers["style"], transform_f=gram_matrix, difference_to=2),
        ]
    )
    losses = []

    def watched(T):
        losses.append(objective(T))
        return losses[-1]

    images = render.render_vis(
        model, watched, param_f=style_transfer_param_f, transforms=[], thresholds=[20],
        show_image=False, preprocess=False,
    )  # fmt: skip
    assert images[0].shape == (3, 64, 64, 3)
    assert losses[-1].item() < 0.9 * losses[0].item()


@pytest.mark.thorough
def test_the_default_number_of_steps(model):
    """A channel of a network that was never trained, and what 512 steps make of its loss."""
    losses = []

    def watched(T):
        losses.append(-T("mixed4a")[:, 6].mean())
        return losses[-1]

    torch.manual_seed(0)
    images = fvfast.lucent.optvis.render.render_vis(model, watched, progress=False)
    assert_drawn(images, (1, 128, 128, 3))
    assert len(losses) == 513  # with the first look at what the objective reads
    assert losses[-1].item() < 2 * losses[0].item() < 0
