"""A small network, and short runs on it."""

import torch
from torch import nn

from fvfast.lucent.optvis import param, render


class Inception(nn.Module):
    """A small network with names of layers as Lucid's InceptionV1 has them."""

    def __init__(self):
        super().__init__()
        self.conv2d0 = nn.Conv2d(3, 8, 5, stride=4)
        self.mixed4a = nn.Sequential()
        self.mixed4a.add_module("1x1_pre_relu_conv", nn.Conv2d(8, 16, 1, stride=2))
        self.mixed4a.add_module("relu", nn.ReLU(inplace=True))
        self.mixed4b = nn.Conv2d(16, 16, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.softmax2_pre_activation_matmul = nn.Linear(16, 10)

    def forward(self, images):
        activations = self.mixed4b(self.mixed4a(self.conv2d0(images)))
        return self.softmax2_pre_activation_matmul(self.pool(activations.relu()).flatten(1))


def hooks_of(model):
    """All hooks that a network has."""
    return [
        hook
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        for hook in hooks.values()
    ]


def small_image():
    return param.image(12)


def draw(model, objective, param_f=small_image, **settings):
    """Draw on views of 20 pixels, without a screen."""
    usual = {
        "thresholds": (2,), "progress": False, "show_image": False, "transforms": [],
        "fixed_image_size": 20,
    }  # fmt: skip
    return render.render_vis(model, objective, param_f, **{**usual, **settings})


def sgd(params):
    return torch.optim.SGD(params, lr=1.0)
