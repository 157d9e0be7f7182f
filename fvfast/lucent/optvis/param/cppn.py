"""Images painted by a network of coordinates (a compositional pattern producing network)."""

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from fvfast._shared.checks import check_count
from fvfast.lucent.optvis.devices import parameter_device
from fvfast.lucent.optvis.param.color import Parameters


class CompositeActivation(nn.Module):
    """The arc tangent and its square, brought to similar scales: twice as many channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return activations (N, 2 C, H, W)."""
        bent = torch.atan(x)
        return torch.cat([bent / 0.67, (bent * bent) / 0.6], 1)


def cppn(
    size: int,
    num_output_channels: int = 3,
    num_hidden_channels: int = 24,
    num_layers: int = 8,
    activation_fn: Callable[[], nn.Module] = CompositeActivation,
    normalize: bool = False,
) -> Parameters:
    """Make an image whose pixels a small network computes from their coordinates.

    Parameters
    ----------
    size
        Height and width.
    num_output_channels
        Channels of the image.
    num_hidden_channels
        Channels of the convolutions (1 x 1) between.
    num_layers
        Number of convolutions, at least 1.
    activation_fn
        Makes the activation after a convolution. It doubles the channels, as `CompositeActivation`
        does.
    normalize
        Normalize each image's channels after each convolution.

    Returns
    -------
    params
        List of the weights, which are optimized. A learning rate of 5e-3 suits them.
    image_f
        Function without arguments that returns the image (1, C, size, size), with values in (0, 1):
        gray at first.

    Raises
    ------
    TypeError, ValueError
        A number is not an integer of at least 1.
    """
    check_count(size, "cppn: size", 1)
    check_count(num_layers, "cppn: num_layers", 1)
    layers: list[tuple[str, nn.Module]] = []
    incoming = 2  # coordinates
    for index in range(num_layers):
        is_last = index == num_layers - 1
        outgoing = num_output_channels if is_last else num_hidden_channels
        layers.append((f"conv{index}", nn.Conv2d(incoming, outgoing, 1, device="cpu")))
        if normalize:
            layers.append((f"norm{index}", nn.InstanceNorm2d(outgoing)))
        layers.append(("output", nn.Sigmoid()) if is_last else (f"actv{index}", activation_fn()))
        incoming = 2 * num_hidden_channels
    network = nn.Sequential(OrderedDict(layers))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.normal_(convolution.weight, 0, math.sqrt(1 / convolution.in_channels))
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    nn.init.zeros_(convolutions[-1].weight)
    network.to(parameter_device())
    coordinates = _coordinates(size).to(parameter_device())
    return list(network.parameters()), lambda: network(coordinates)


def _coordinates(size: int) -> torch.Tensor:
    """Return rows and columns of the pixels, of variance 1: (1, 2, size, size)."""
    line = torch.linspace(-math.sqrt(3), math.sqrt(3), size, device="cpu")
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
