"""Passes, views and objectives for the tests of captures."""

import torch

from fvfast import Objective

INPUT = (3, 20, 20)


def square(views):
    return views.flatten(1).square().sum(1), 2 * views


def views_of(seed, count=4):
    return torch.randn(count, *INPUT, generator=torch.Generator().manual_seed(seed))


def objectives(network):
    return {
        "neurons": (Objective.neuron(network, "7", [1, 2], input_shape=INPUT), False),
        "a layer": (Objective.layer(network, "4", input_shape=INPUT), False),
        "a function": (
            Objective.from_callable(network, lambda x: network(x)[:, 3], input_shape=INPUT),
            True,
        ),
        "a mask with a function": (
            Objective(
                network, ["2"], [[torch.ones(8, 18, 18)]],
                [lambda outputs, mask: (outputs * mask).mean()], [1.0], [["a"]],
                input_shape=INPUT,
            ),
            True,
        ),
    }  # fmt: skip
