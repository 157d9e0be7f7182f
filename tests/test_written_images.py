"""Networks and functions that write to the images they are given."""

import collections

import pytest
import torch
import torch.nn.functional as F
from misbehaving import INPUT, OPTIMIZE, SHORT, Network
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.plan import Plan
from fvfast.engine.starting import running_engine

pytestmark = pytest.mark.usefixtures("nothing_kept")


def subtracts(x):
    x -= 0.5
    return x


@pytest.mark.parametrize(
    "first",
    [
        lambda x: x.mul_(2),
        subtracts,
        nn.ReLU(inplace=True),
        lambda x: F.hardtanh_(x),
        lambda x: x[:, 0].zero_() is None or x,
        lambda x: x.flatten(1).mul_(2).view_as(x),
    ],
)
@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_images_may_be_written_to(first, call):
    model = Network()
    through_model = nn.Sequential(
        collections.OrderedDict(first=First(first), body=Network())
    ).eval()
    objectives = {
        "in the network": Objective.neuron(
            through_model, "body.fc", 2, names="x", input_shape=INPUT
        ),
        "before it": Objective.neuron(
            model, "fc", 2, names="x", input_shape=INPUT, preprocess=first
        ),
        "in a function": Objective.from_callable(
            model, lambda x: model(first(x))[:, 2] / 5, names="x", input_shape=INPUT
        ),
        "not at all": Objective.from_callable(
            model, lambda x: model(first(x.clone()))[:, 2] / 5, names="x", input_shape=INPUT
        ),
    }
    settings = {**(OPTIMIZE if call is optimize else SHORT), "seed": 1}
    if call is optimize:
        settings["regularizers"] = [lambda images: images.square().mean((1, 2, 3))]
    pictures = {name: call(objective, **settings)[0] for name, objective in objectives.items()}
    if call is optimize:
        pictures = {name: images[-1] for name, images in pictures.items()}
    for name, image in pictures.items():
        torch.testing.assert_close(image, pictures["not at all"], msg=name)


class First(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_images_that_do_not_fit_at_once_are_not_changed():
    """Each part of them goes through the network twice."""
    model = nn.Sequential(collections.OrderedDict(first=First(subtracts), fc=nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 12 * 12, 5)))).eval()  # fmt: skip
    objective = Objective.neuron(model, "fc", 2, input_shape=INPUT)
    tapped, scorer, (name,), _ = objective.compile()
    images = torch.randn(3, *INPUT)
    before = images.clone()

    def gradients(views_per_pass):
        plan = Plan(views_per_pass=views_per_pass)
        with borrowed(model), running_engine(tapped, plan, lambda *_: scorer, name) as engine:
            return engine.gradients(images, 1)

    torch.testing.assert_close(gradients(1), gradients(None))
    assert torch.equal(images, before)
