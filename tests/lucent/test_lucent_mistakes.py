"""Wrong arguments, and networks that fail: what is said, and when."""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import pytest
import torch
from lucent_runs import draw, hooks_of, small_image
from torch import nn

from fvfast.lucent import modelzoo
from fvfast.lucent.modelzoo.util import get_model_layers
from fvfast.lucent.optvis import objectives, param, render


def never(*_args):
    raise AssertionError("the run began")


WRONG = {
    "a layer that is not there": (
        {"objective": "conv3:1"}, ValueError, r"has no layer 'conv3'. Its layers are 0, 1, 2, 3",
    ),
    "a channel that is not there": (
        {"objective": "3:16"}, ValueError, r"layer '3' with an output of \(16, 8, 8\): index 16",
    ),
    "an image that is not there": (
        {"objective": objectives.channel("3", 0, batch=1)}, ValueError, "batch.*index 1 is out of",
    ),
    "a text without a unit": ({"objective": "3"}, ValueError, "'3': expected the name of a layer"),
    "no objective": ({"objective": None}, TypeError, "Objective or a function of T, got None"),
    "a layer that is no text": (
        {"objective": lambda T: T(3).mean()}, TypeError, "a layer is named by a text.*got 3",
    ),
    "several losses": (
        {"objective": lambda T: T("3").mean(1)}, ValueError, r"shape \(1, 8, 8\); expected a loss",
    ),
    "no loss": ({"objective": lambda _: None}, TypeError, "the objective returned None"),
    "a number": ({"objective": lambda _: 1.5}, TypeError, "the objective returned 1.5"),
    "a loss of nothing": (
        {"objective": lambda T: T("3").detach().mean()}, ValueError, "no gradient reaches it",
    ),
    "one threshold": ({"thresholds": (512)}, TypeError, r"thresholds=\(512,\), with a comma"),
    "no threshold": ({"thresholds": ()}, ValueError, "thresholds is empty"),
    "a threshold that is no integer": ({"thresholds": [2.0]}, TypeError, "must be an integer"),
    "a threshold of 0": ({"thresholds": [0, 3]}, ValueError, "must be at least 1, got 0"),
    "an optimizer": (
        {"optimizer": torch.optim.Adam([torch.ones(1)])}, TypeError, "optimizer must be a function",
    ),
    "a function that makes no optimizer": (
        {"optimizer": lambda _: "Adam"}, TypeError, "optimizer returned 'Adam'; expected",
    ),
    "parameters in place of a function": (
        {"param_f": param.image(8)}, TypeError, "param_f must be a function, for example lambda",
    ),
    "one thing from param_f": ({"param_f": lambda: (1,)}, TypeError, "must return a list"),
    "no parameters": ({"param_f": lambda: ([], never)}, TypeError, "at least one tensor"),
    "constant parameters": (
        {"param_f": lambda: ([torch.ones(3)], never)}, ValueError, "none requires a gradient",
    ),
    "an image without a batch": (
        {"param_f": lambda: ([torch.ones(3, 8, 8).requires_grad_()], lambda: torch.ones(3, 8, 8))},
        ValueError, r"returned \(3, 8, 8\); expected a tensor \(N, C, H, W\)",
    ),
    "an image of other parameters": (
        {"param_f": lambda: ([torch.ones(1).requires_grad_()], lambda: torch.ones(1, 3, 8, 8))},
        ValueError, "no gradient reaches it",
    ),
    "a transformation alone": (
        {"transforms": lambda images: images}, TypeError, "transforms must be a list of functions",
    ),
    "a number as a transformation": ({"transforms": [8]}, TypeError, "of images, got 8"),
    "a size of 0": ({"fixed_image_size": 0}, ValueError, "fixed_image_size must be at least 1"),
    "a size of three": ({"fixed_image_size": (3, 8, 8)}, ValueError, "one number, or"),
    "a file without a format": (
        {"save_image": True, "image_name": "picture"}, ValueError, "none of the formats",
    ),
    "a file of a format that is only read": (
        {"save_image": True, "image_name": "a.psd"}, ValueError, "none of the formats",
    ),
    "a file in no folder": (
        {"save_image": True, "image_name": "/nowhere/a.png"}, FileNotFoundError,
        "no folder /nowhere",
    ),
    "gray images for a network in color": (
        {"param_f": lambda: param.image(8, channels=1)}, ValueError, "preprocess=False",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(network, name):
    settings, error, words = WRONG[name]
    settings = {"objective": "3:1", **settings}
    before = {key: one.clone() for key, one in network.state_dict().items()}
    with pytest.raises(error, match=words):
        draw(network, settings.pop("objective"), settings.pop("param_f", small_image), **settings)
    assert hooks_of(network) == []
    assert all(one.requires_grad for one in network.parameters())
    assert all(torch.equal(one, before[key]) for key, one in network.state_dict().items())


def test_what_is_no_network():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
        draw(never, "3:1")
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got str"):
        get_model_layers("resnet50")
    with pytest.raises(TypeError, match=r"ModuleHook takes a torch.nn.Module, got 'layer4'"):
        render.ModuleHook("layer4")


def test_near_names(model):
    with pytest.raises(ValueError, match="Closest names: mixed4a_1x1_pre_relu_conv"):
        draw(model, "1x1_pre_relu_conv:0", fixed_image_size=40)
    with pytest.raises(ValueError, match=r"no layer 'mixed4d'. Closest names: mixed4"):
        draw(model, "mixed4d:0", fixed_image_size=40)


def test_names_of_two_layers():
    inner = nn.Sequential()
    inner.add_module("b", nn.Conv2d(3, 2, 1))
    model = nn.Sequential()
    model.add_module("a", inner)
    model.add_module("a_b", nn.Conv2d(2, 4, 1))
    model.eval()
    assert draw(model, "a_b:3")[0].shape == (1, 12, 12, 3)  # the exact name of one of them
    outer = nn.Sequential()
    outer.add_module("net", model)
    with pytest.raises(ValueError, match=r"several layers: say which.*'net.a.b' or 'net.a_b'"):
        draw(outer.eval(), "net_a_b:1")
    assert draw(outer, "net.a.b:1")[0].shape == (1, 12, 12, 3)


class Late(nn.Module):
    """A network whose last layer takes images of 20 pixels only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.middle = nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4 * 16 * 16, 5)

    def forward(self, x):
        return self.fc(self.middle(self.conv(x)).flatten(1))


@pytest.mark.parametrize("objective", ["middle:1", lambda T: -T("middle")[:, 1].mean()])
def test_a_late_layer_that_fails(objective):
    """Said once, and the layers before it count."""
    torch.manual_seed(0)
    model = Late().eval()
    with pytest.warns(UserWarning, match="behind the layers that the objective reads") as caught:
        images = draw(model, objective, fixed_image_size=16, thresholds=(1, 5), verbose=True)
    assert len(caught) == 1
    assert abs(images[1] - images[0]).max() > 1e-3
    with pytest.warns(UserWarning, match=r"shape \(1, 3, 16, 16\)"):
        draw(model, objective, fixed_image_size=16)
    draw(model, objective)  # 20 pixels: no warning
    assert hooks_of(model) == []


def test_features_of_an_earlier_pass_are_not_used():
    """The layer was reached with other images; with these it is not."""
    model = Late().eval()
    draw(model, "fc:1")
    with pytest.raises(RuntimeError, match=r"layer 'fc' has no output.*failed before it on images"):
        draw(model, "fc:1", fixed_image_size=16)
    features = render.hook_model(model, small_image)
    model(torch.rand(1, 3, 20, 20))
    assert features("fc").shape == (1, 5)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        model(torch.rand(1, 3, 16, 16))
    with pytest.raises(RuntimeError, match="layer 'fc' has no output"):
        features("fc")
    assert features("middle").shape == (1, 4, 12, 12)
    features.close()


def test_a_layer_that_is_not_called():
    class Aux(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.aux = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.conv(x)

    with pytest.raises(RuntimeError, match=r"'aux' has no output: the latest.*evaluation mode"):
        draw(Aux().eval(), "aux:1")


class TestModelzoo:
    def test_networks_of_torchvision(self):
        torchvision = pytest.importorskip("torchvision.models")
        assert modelzoo.resnet18 is torchvision.resnet18
        names = {}
        exec("from fvfast.lucent.modelzoo import *", names)
        assert names["vgg16"] is torchvision.vgg16
        assert names["inceptionv1"] is modelzoo.inceptionv1

    def test_networks_that_are_not_there(self):
        with pytest.raises(NotImplementedError, match=r"load_model\('efficientnet_lite0'\)"):
            modelzoo.inceptionv1(pretrained=True)
        with pytest.raises(AttributeError, match="has no network 'resnet19'"):
            modelzoo.resnet19  # noqa: B018
        with pytest.raises(ImportError, match="resnet19"):
            exec("from fvfast.lucent.modelzoo import resnet19")

    def test_names_and_what_layers_print(self, model):
        names = get_model_layers(model)
        printed = get_model_layers(model, getLayerRepr=True)
        assert list(printed) == names
        assert printed["mixed4b"] == repr(model.mixed4b)
        assert names == [name.replace(".", "_") for name, _ in model.named_modules() if name]
