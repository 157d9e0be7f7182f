"""Networks that workers load by name: small ones, and some that fail."""

import os

import torch
from torch import nn

CHANNELS = 24
SHAPE = (3, 16, 16)
BAD = 5
"""The channel that fails."""


def _network(*modules):
    network = nn.Sequential(*modules)
    network.input_shape = SHAPE
    return network.eval()


def tiny():
    torch.manual_seed(0)
    return _network(
        nn.Conv2d(3, CHANNELS, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(CHANNELS, 10),
    )  # fmt: skip


def classifier():
    network = tiny()
    network.categories = ["macaw", "mug", *(f"thing {index}" for index in range(8))]
    return network


def gray():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    network.input_shape = (1, 16, 16)
    return network


def four_channels():
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    network.input_shape = (4, 16, 16)
    return network


def unseeded():
    torch.seed()
    return _network(nn.Conv2d(3, CHANNELS, 3), nn.ReLU())


class _Raise(torch.autograd.Function):
    @staticmethod
    def forward(context, values, message):
        context.message = message
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        if gradient[:, BAD].any():
            raise RuntimeError(context.message)
        return gradient, None


class Guard(nn.Module):
    """Fails whenever its channel `BAD` is to be raised."""

    def __init__(self, message):
        super().__init__()
        self.message = message

    def forward(self, values):
        return _Raise.apply(values, self.message)


def failing():
    torch.manual_seed(0)
    return _network(nn.Conv2d(3, CHANNELS, 3, stride=2), Guard("channel 5 never works"))


def breaking():
    torch.manual_seed(0)
    return _network(
        nn.Conv2d(3, CHANNELS, 3, stride=2), Guard("CUDA error: device-side assert triggered")
    )


def half_finite():
    network = tiny()
    network[0].bias.data[BAD] = float("nan")
    return network


class Hungry(nn.Module):
    def forward(self, views):
        if len(views) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        return views * 1.0


def hungry():
    return _network(Hungry(), *tiny())


class Deadly(nn.Module):
    def forward(self, views):
        if views.requires_grad:
            os._exit(9)
        return views * 1.0


def deadly():
    return _network(Deadly(), *tiny())
