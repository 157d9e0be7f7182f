"""Plans of small networks, which several test files make."""

import torch
from torch import nn

from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form
from fvfast.engine.rewrite.plan import Planner
from fvfast.engine.starting import running_engine

INPUT = (3, 20, 20)


SHORT = {"nb_steps": 2, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}


JOINED = Form(joined=True, channels_last=True)


class Network(nn.Module):
    """A convolution, and a function of the network and the convolution's output."""

    def __init__(self, function=lambda _m, y: y, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)
        self.eval()

    def forward(self, x):
        return self.function(self, self.conv(x))


def objective_of(model, layer=-1, **settings):
    return Objective.layer(model, layer, input_shape=INPUT, **settings)


def views_of(count=3, seed=0):
    return torch.randn(count, *INPUT, generator=torch.Generator().manual_seed(seed))


def plan_of(objective, precision=None, views=None, planner=Planner):
    """A plan for an objective, as `make_plan` makes it, unless with another planner."""
    tapped, _, names, _ = objective.compile()
    with borrowed(objective.model):
        views = views_of() if views is None else views
        plan, _ = planner(tapped, objective.scorer([0]), views, names[0]).plan(precision)
        return plan


def gradients(objective, plan, views=None):
    """Scores and gradient by a plan."""
    tapped, *_ = objective.compile()

    def scorer(first, last):
        return objective.scorer(range(first, last))

    with borrowed(objective.model), running_engine(tapped, plan, scorer, "name") as engine:
        views = views_of() if views is None else views
        return engine.gradients(views, len(objective.combination_names))


def relative(mine, its):
    return float((mine.double() - its.double()).norm() / its.double().norm())


def note_dtypes(module):
    """Types of a module's outputs and parameters when it is called."""
    seen = []
    module.register_forward_hook(lambda m, _i, output: seen.append((output.dtype, m.weight.dtype)))
    return seen
