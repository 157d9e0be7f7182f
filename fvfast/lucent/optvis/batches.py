"""Objectives that compare the images of a batch."""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import torch
from torch.nn import functional

from fvfast.lucent.optvis.activations import channel_of
from fvfast.lucent.optvis.objective import Features, ObjectiveFunction, own_objective

FARTHEST = 4
"""Images that are farther apart in the batch are not aligned."""


@own_objective
def channel_interpolate(
    layer1: str, n_channel1: int, layer2: str, n_channel2: int
) -> ObjectiveFunction:
    """Go from one channel to another over the batch.

    Parameters
    ----------
    layer1, n_channel1
        Layer and channel of the first image.
    layer2, n_channel2
        Layer and channel of the last image. Those between have a mixture of both.

    Returns
    -------
    objective
        Minus the sum over the images of the weighted means of both channels. It raises ValueError
        for less than 2 images.
    """

    def loss(T: Features) -> torch.Tensor:
        first, last = (
            channel_of(T(layer), layer, index).unsqueeze(1).flatten(1).mean(1)
            for layer, index in ((layer1, n_channel1), (layer2, n_channel2))
        )
        _check_several(len(first), "channel_interpolate")
        weights = torch.linspace(0, 1, len(first), dtype=first.dtype, device=first.device)
        return -((1 - weights) * first + weights * last).sum()

    return loss


@own_objective
def alignment(layer: str, decay_ratio: float = 2) -> ObjectiveFunction:
    """Keep images that are near each other in the batch alike.

    Parameters
    ----------
    layer
        Name of a layer, or "input" for the images themselves.
    decay_ratio
        Images d places apart, up to 4, weigh 1 / decay_ratio ** d.

    Returns
    -------
    objective
        The weighted sum over all pairs of the mean squares of their differences.
    """

    def loss(T: Features) -> torch.Tensor:
        activations = T(layer)
        total = activations.new_zeros(())
        for distance in range(1, min(FARTHEST, len(activations) - 1) + 1):
            differences = (activations[distance:] - activations[:-distance]) ** 2
            total = total + differences.flatten(1).mean(1).sum() / decay_ratio**distance
        return total

    return loss


@own_objective
def diversity(layer: str) -> ObjectiveFunction:
    """Measure how alike the images of a batch are; subtract it, and they come out different.

    Parameters
    ----------
    layer
        Name of a layer.

    Returns
    -------
    objective
        Minus the sum of the cosines between the Gram matrices of each two images, over half of the
        number of images. So ``objective - 1e2 * diversity(layer)`` keeps images apart.
    """

    def loss(T: Features) -> torch.Tensor:
        activations = channel_of(T(layer), layer, slice(None)).flatten(2)  # (N, C, positions)
        grams = (activations @ activations.mT).flatten(1)
        cosines = functional.normalize(grams, dim=1)
        cosines = cosines @ cosines.mT
        return -(cosines.sum() - cosines.diagonal().sum()) / len(activations)

    return loss


def _check_several(images: int, function: str) -> None:
    if images < 2:
        raise ValueError(
            f"{function}: expected 2 images or more, got {images}. Make a batch: "
            "param_f=lambda: param.image(128, batch=6)."
        )
