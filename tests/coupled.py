"""Pictures that are scored together: objectives, and their scores by hand, for the tests."""

import numpy as np
import torch

from fvfast import Objective

INPUT = (3, 20, 20)
STEPS = {"nb_steps": 4, "nb_crops": 3, "box_size": 0.9, "custom_shape": (32, 32)}
SHORT = {**STEPS, "progress": False}


def channels(network, ids=5, **settings):
    return Objective.channel(network, "3", ids, input_shape=INPUT, **settings)


def diversity(network, images=3, **settings):
    return Objective.diversity(network, "3", images, input_shape=INPUT, **settings)


def alignment(network, images=3, **settings):
    return Objective.alignment(network, "3", images, input_shape=INPUT, **settings)


def scores(objective, images):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(images))


def layer_of(network, images, count):
    """What layer 3 puts out for each of some images: (count, K, C, H, W), in float64."""
    with torch.no_grad():
        return network[:4](images).double().unflatten(0, (count, -1)).numpy()


def diversity_by_hand(values):
    """From activations (M, K, C, H, W) to scores (M,), picture by picture."""
    grams = []
    for picture in values:
        rows = picture.transpose(1, 0, 2, 3).reshape(picture.shape[1], -1)
        grams.append(rows @ rows.T)
    found = []
    for index, gram in enumerate(grams):
        others = grams[:index] + grams[index + 1 :]
        cosines = [
            (gram * other).sum() / np.sqrt((gram**2).sum() * (other**2).sum()) for other in others
        ]
        found.append(1 - np.mean(cosines))
    return np.array(found)


def alignment_by_hand(values, ratio):
    """Each pair of pictures 1 to 4 apart, half of it for each of the two."""
    found = np.zeros(len(values))
    for first in range(len(values)):
        for last in range(first + 1, min(first + 5, len(values))):
            pair = ((values[first] - values[last]) ** 2).mean() / ratio ** (last - first)
            found[[first, last]] -= pair / 2
    return found
