"""A network that draws a unit in milliseconds, for measurements of everything around it."""

import torch
from torch import nn

CHANNELS = 320


def tiny() -> nn.Module:
    """Return a network on images of 3 x 32 x 32, whose first layer has `CHANNELS` channels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, stride=4), nn.ReLU(), nn.Flatten())
    network.input_shape = (3, 32, 32)  # type: ignore[assignment]
    return network.eval()
