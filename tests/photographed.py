"""Photographs, and objectives that they set, for the tests."""

import numpy as np
import torch

from fvfast import Objective

INPUT = (3, 20, 20)
WHOLE = {"nb_steps": 4, "nb_crops": 0, "custom_shape": (32, 32), "progress": False}
MAKERS = {"inversion": Objective.inversion, "caricature": Objective.caricature}


def pixels(seed=0, size=(30, 40), channels=3):
    """Bytes (H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def as_image(pixels):
    """What the network is shown of bytes (20, 20, C) in (-1, 1): (C, H, W)."""
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def inversion(network, photograph, **settings):
    return Objective.inversion(network, "3", photograph, input_shape=INPUT, **settings)


def caricature(network, photograph, **settings):
    return Objective.caricature(network, "3", photograph, input_shape=INPUT, **settings)


def scores(objective, images):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(images)).numpy()


def layer_of(network, images):
    with torch.no_grad():
        return network[:4](images).double().numpy()
