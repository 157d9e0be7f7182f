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
from fvfast.lucent.misc.channel_reducer import ChannelReducer
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


@pytest.fixture
def shown(monkeypatch):
    """Sizes of the pictures that a notebook shows."""
    sizes = []
    monkeypatch.setattr("IPython.display.display", lambda picture: sizes.append(picture.size))
    return sizes


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

    @pytest.mark.parametrize("fft", [False, True])
    @pytest.mark.parametrize("decorrelate", [False, True])
    def test_parametrizations(self, model, shown, fft, decorrelate):
        obj = "mixed4a_1x1_pre_relu_conv:9"
        param_f = lambda: param.image(128, fft=fft, decorrelate=decorrelate)  # noqa: E731
        images = render.render_vis(model, obj, param_f, transforms=[], show_inline=True)
        assert_drawn(images, (1, 128, 128, 3))
        assert shown == [(128, 128)]

    def test_cppn(self, model, shown):
        obj = "mixed4a_1x1_pre_relu_conv:9"
        cppn_param_f = lambda: param.cppn(64)  # noqa: E731
        # We initialize an optimizer with lower learning rate for CPPN
        cppn_opt = lambda params: torch.optim.Adam(params, 5e-3)  # noqa: E731
        for transforms in ([], [transform.jitter(8)], None):
            images = render.render_vis(
                model, obj, cppn_param_f, cppn_opt, transforms=transforms, show_inline=True,
                thresholds=[8],
            )  # fmt: skip
            assert_drawn(images, (1, 64, 64, 3))
        assert shown == [(64, 64)] * 3

    def test_intermediate_images(self, model):
        images = render.render_vis(model, "mixed4a:6", thresholds=(1, 2, 3, 4))
        assert len(images) == 4


def test_networks():
    """Of torchvision, by its names and by Lucent's, with the outputs as labels."""
    models = pytest.importorskip("torchvision.models")
    from fvfast.lucent.modelzoo import mobilenet_v2

    assert mobilenet_v2 is models.mobilenet_v2
    torch.manual_seed(0)
    network = mobilenet_v2(weights=None).eval()
    assert get_model_layers(network)[:2] == ["features", "features_0"]
    small = {"param_f": lambda: param.image(32), "fixed_image_size": 64}
    for objective in ("features_4:20", "labels:949"):
        first, last = render.render_vis(network, objective, thresholds=(1, 6), **small)
        assert first.shape == (1, 32, 32, 3)
        # Gradients of random weights are tiny, hardly more than Adam's epsilon.
        assert np.abs(last - first).max() > 1e-5


def test_diversity(model):
    batch_param_f = lambda: param.image(128, batch=4)  # noqa: E731
    obj = objectives.channel("mixed4a", 7) - 1e2 * objectives.diversity("mixed4a")
    assert_drawn(render.render_vis(model, obj, batch_param_f), (4, 128, 128, 3))
    batch_param_f = lambda: param.image(128, batch=4, decorrelate=False)  # noqa: E731
    name = "mixed4a_1x1_pre_relu_conv"
    obj = objectives.channel(name, 9) - 1e3 * objectives.diversity(name)
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
    """An image for each position of a layer; similar positions share parts of theirs.

    The images are drawn in random parts of the batch, which the objective has to know.
    """
    pytest.importorskip("sklearn")
    layer, cells, side, part = "mixed4a", 4, 40, 3

    @torch.no_grad()
    def read(photograph):
        hook = render.ModuleHook(getattr(model, layer))
        model(photograph)
        hook.close()
        return torch.nn.functional.adaptive_avg_pool2d(hook.features[0], 2)

    activations = read(torch.rand(1, 3, 64, 64)).permute(1, 2, 0).reshape(cells, -1)
    reducer = ChannelReducer(2, "NMF", tol=0.05)
    groups = torch.from_numpy(reducer.fit_transform(activations.numpy()))
    group_params, group_images = param.fft_image([2, 3, side, side])
    cell_params, cell_images = param.fft_image([cells, 3, side, side])
    image_f = param.to_valid_rgb(
        lambda: 0.7 * cell_images() + 0.5 * torch.einsum("ng,gchw->nchw", groups, group_images()),
        decorrelate=True,
    )
    chosen = []

    def some_images():
        chosen[:] = torch.randint(0, cells, size=(part,)).tolist()
        return image_f()[chosen]

    def toward_activations(T):
        return -(T(layer) * activations[chosen][:, :, None, None]).sum(dim=1).mean()

    before = image_f().detach()
    results = render.render_vis(
        model, objectives.Objective(toward_activations),
        lambda: (list(group_params) + list(cell_params), some_images),
        thresholds=(6,), show_image=False, progress=True, fixed_image_size=side,
    )  # fmt: skip
    assert results[0].shape == (part, side, side, 3)
    assert ((image_f() - before).abs().amax((1, 2, 3)) > 0.01).all()


def test_feature_inversion(model, shown):
    """The second image of the batch is a photograph; blurring reads the images themselves."""

    @objectives.wrap_objective()
    def alike(layer, cossim_pow=0.0):
        def loss(T):
            drawn, photograph = T(layer)
            product = (drawn * photograph).sum()
            return -product * (product / (1e-6 + drawn.norm())) ** cossim_pow

        return loss

    photograph = torch.rand(3, 96, 96).to(device)
    obj = objectives.Objective.sum(
        [1.0 * alike("mixed4a", cossim_pow=0.5), objectives.blur_input_each_step()]
    )
    params, image_f = param.image(96)
    images = render.render_vis(
        model, obj, lambda: (params, lambda: torch.stack([image_f()[0], photograph])),
        transforms=[
            transform.pad(8, mode="constant", constant_value=0.5),
            transform.jitter(8),
            transform.random_scale([0.9, 0.95, 1.05, 1.1] + [1] * 4),
            transform.random_rotate(list(range(-5, 5)) + [0] * 5),
            transform.jitter(2),
        ],
        thresholds=(3,), show_image=False, progress=False,
    )  # fmt: skip
    assert images[0].shape == (2, 96, 96, 3)
    np.testing.assert_array_equal(images[0][1], photograph.permute(1, 2, 0).cpu())
    show(images[0][0])
    fvfast.lucent.optvis.render.show(images[0])
    assert shown == [(96, 96), (192, 96)]


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
