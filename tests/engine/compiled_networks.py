"""What the tests of compiled networks share: a network, and how it draws."""

import torch
from injected_runs import maco_with
from torch import nn

from fvfast import Objective
from fvfast.engine.rewrite.kept_forms import FormStore

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 4, "nb_crops": 3, "custom_shape": (32, 32)}
LOGGED = "fvfast.engine.compiled.kept"


class Swish(nn.Module):
    """Operations that no other form joins: SiLU, a sum, a product, layer normalization."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
        self.gate = nn.Conv2d(8, 8, 1)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)
        for norm in (self.stem[1], self.deep[1]):
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean)
        self.eval()

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.relu_(x + self.deep(x) * self.gate(x.mean((2, 3), True)).sigmoid())
        return self.head(self.norm(x.mean((2, 3))))


def neuron(model, unit=1, layer=""):
    return Objective.neuron(model, layer, unit, input_shape=INPUT)


def drawn(model, store, unit=1, layer="", **settings):
    settings = {**SHORT, "compile": True, **settings}
    return maco_with(store, neuron(model, unit, layer), **settings)


def plain(model, unit=1, layer="", **settings):
    return maco_with(FormStore(), neuron(model, unit, layer), **{**SHORT, **settings})


def close(mine, its, tolerance=1e-3):
    return float((mine - its).norm() / its.norm()) < tolerance


def notes(caplog):
    return [record.getMessage() for record in caplog.records if record.name == LOGGED]
