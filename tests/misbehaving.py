"""Small networks that do more than compute, and all that they and the process are."""

import collections
import hashlib
import random
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fvfast import Objective, maco, optimize

INPUT = (3, 12, 12)
SHORT = {"nb_steps": 3, "nb_crops": 2, "custom_shape": (16, 16), "progress": False}
OPTIMIZE = {"nb_steps": 3, "custom_shape": (16, 16), "progress": False}


class Network(nn.Module):
    """A small network; ``around`` may do what it likes before the classifier."""

    def __init__(self, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 10 * 10, 5)
        for name, part in parts.items():
            setattr(self, name, part)
        self.eval()

    def around(self, x):
        return x

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(self.around(x).flatten(1))


def bits(tensor):
    if type(tensor) not in (torch.Tensor, nn.Parameter):
        return repr(tensor)
    return (
        tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad,
        # Of a copy: memory that numpy has seen cannot be resized any more.
        hashlib.sha256(tensor.detach().clone().reshape(-1).view(torch.uint8).numpy()).digest(),
    )  # fmt: skip


def described(value, seen):
    """All that a value is: each bit of tensors, what others hold, and which object it is."""
    if isinstance(value, torch.Tensor):
        return id(value), bits(value)
    if id(value) in seen:
        return id(value)
    seen.add(id(value))
    if isinstance(value, nn.Module):
        return id(value), described(value.__dict__, seen)
    if isinstance(value, dict):
        return id(value), [(key, described(one, seen)) for key, one in value.items()]
    if isinstance(value, (list, tuple, collections.deque)):
        return id(value), [described(one, seen) for one in value]
    if isinstance(value, torch.Generator):
        return id(value), value.get_state().tolist()
    if isinstance(value, random.Random):
        return id(value), value.getstate()
    if isinstance(value, np.random.Generator):
        return id(value), str(value.bit_generator.state)
    return id(value), repr(value)


def everything(model):
    # Modules that changed their class (lazy ones) too.
    return [type(module) for module in model.modules()], described(model, set())


def global_state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()),
        torch.is_grad_enabled(), torch.get_default_dtype(),
        len(torch.overrides._get_current_function_mode_stack()),
    )  # fmt: skip


class CountsInItsData(Network):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def around(self, x):
        self.n.data.add_(1)
        return x * (1 + 0.01 * self.n)


class Spikes(Network):
    """A state in an attribute, a list and a dictionary, some of it written in place."""

    def __init__(self):
        super().__init__()
        self.membrane = None
        self.current = torch.zeros(4, 1, 1)
        self.history = []
        self.memory = {"last": [torch.zeros(4, 1, 1)], "calls": 0}

    def around(self, x):
        level = x.mean((0, 2, 3), keepdim=True)[0].detach()
        self.membrane = level if self.membrane is None else 0.9 * self.membrane + level
        self.current += level
        self.history.append(level)
        self.memory["last"][0].mul_(0.5).add_(level)
        self.memory["calls"] += 1
        return x * (1 + self.membrane + self.current + len(self.history) + self.memory["last"][0])


def draw(model, call=maco, **settings):
    objective = Objective.neuron(model, "fc", 2, input_shape=INPUT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(training mode|interrupted|not finite)")
        result = call(objective, **{**(OPTIMIZE if call is optimize else SHORT), **settings})
    return result[0][-1] if call is optimize else result[0]


# Drawing


class Drops(Network):
    def around(self, x):
        return F.dropout(x, 0.5) * (0.5 + random.random()) * (0.5 + np.random.rand())
