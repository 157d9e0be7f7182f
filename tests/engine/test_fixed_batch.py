"""Networks that take one image at a time only."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.evaluation.metrics import mean_logit, mean_score
from fvfast.models import LoadedModel

INPUT = (3, 20, 20)
QUICK = {"nb_steps": 2, "custom_shape": 24, "progress": False}
MESSAGE = "takes one image at a time only"


class Flattens(nn.Module):
    """Flattens its images, with a fixed number of them or not."""

    def __init__(self, rows):
        super().__init__()
        torch.manual_seed(0)
        self.rows = rows
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 18 * 18, 5)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.head(x.view(self.rows or len(x), -1))


class Merges(Flattens):
    """Does not fail with several images, but makes one row of them."""

    def forward(self, x):
        return self.head(self.conv(x).relu().view(1, -1, self.head.in_features).mean(1))


def exported():
    torch.manual_seed(0)
    model = Flattens(None).eval()
    return torch.export.export(model, (torch.zeros(1, *INPUT),)).module()


@pytest.mark.filterwarnings("ignore:the model .* is in training mode")
@pytest.mark.parametrize("make", [lambda: Flattens(1).eval(), lambda: Merges(1).eval(), exported])
def test_views_go_one_by_one(make):
    free = Objective.neuron(Flattens(None).eval(), "head", [1, 3], input_shape=INPUT)
    fixed = Objective.neuron(make(), "", [1, 3], names=free.names[0], input_shape=INPUT)
    expected = maco_batch(free, nb_crops=3, batch_size=2, **QUICK)
    with pytest.warns(RuntimeWarning, match=MESSAGE) as told:
        made = maco_batch(fixed, nb_crops=3, batch_size=2, **QUICK)
    assert sum(MESSAGE in str(warning.message) for warning in told) == 1
    assert torch.allclose(made.scores, expected.scores, rtol=1e-4)
    assert torch.allclose(made.images, expected.images, atol=1e-2)


def test_later_batches_are_not_tried_again(recwarn):
    warnings.simplefilter("always")
    objective = Objective.neuron(Flattens(1).eval(), "head", range(3), input_shape=INPUT)
    maco_batch(objective, nb_crops=2, box_size=0.9, batch_size=1, **QUICK)
    assert [MESSAGE in str(warning.message) for warning in recwarn] == [True]


def test_several_images_of_optimize():
    objective = Objective.neuron(Flattens(1).eval(), "head", range(3), input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match=MESSAGE):
        images, _ = optimize(objective, **QUICK)
    assert len(images[-1]) == 3


@pytest.mark.parametrize("make", [lambda: Flattens(1).eval(), lambda: Merges(1).eval()])
def test_measures_of_pictures(make):
    images = torch.rand(2, *INPUT)
    fixed, free = make(), Flattens(None).eval()
    for measure in (
        lambda model: mean_score(
            images, Objective.neuron(model, "head", [1, 3], input_shape=INPUT)
        ),
        lambda model: mean_logit(images, 2, LoadedModel(model, "mine", INPUT, (0.0, 1.0))),
    ):
        with pytest.warns(RuntimeWarning, match=MESSAGE):
            made = measure(fixed)
        assert torch.allclose(made, measure(free), rtol=1e-4, atol=1e-6)


class Odd(nn.Module):
    """Fails with three images, for a reason of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        if len(x) == 3:
            raise RuntimeError("three is odd")
        return self.conv(x)


def test_other_failures_are_not_hidden():
    objective = Objective.channel(Odd().eval(), "conv", 0, input_shape=INPUT)
    whole = Objective.channel(Odd().eval(), "", 0, input_shape=INPUT)
    with pytest.raises(RuntimeError, match="three is odd"):
        maco(whole, nb_crops=3, **QUICK)
    with pytest.raises(RuntimeError, match="three is odd"):
        maco(objective, nb_crops=3, **QUICK)


def test_a_failing_function_is_called_once():
    calls = []

    def score(images):
        calls.append(len(images))
        raise RuntimeError("not today")

    objective = Objective.from_callable(None, score, input_shape=INPUT)
    with pytest.raises(RuntimeError, match="not today"):
        maco(objective, nb_crops=3, **QUICK)
    assert calls == [3]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.inside = nn.Conv2d(3, 4, 3)
        self.behind = nn.ReLU()
        self.reentrant = reentrant

    def forward(self, x):
        return self.behind(checkpoint(self.inside, x, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_layer_within_a_reentrant_checkpoint_is_explained():
    settings = {"nb_crops": 2, **QUICK}
    reentrant = Objective.channel(Checkpointed(True).eval(), "inside", 0, input_shape=INPUT)
    with pytest.raises(ValueError, match=r"use_reentrant=False, or switch checkpointing off"):
        maco(reentrant, **settings)
    behind = Objective.channel(Checkpointed(True).eval(), "behind", 0, input_shape=INPUT)
    with pytest.raises(RuntimeError, match=r"set use_reentrant=False"):
        maco(behind, **settings)
    other = Objective.channel(Checkpointed(False).eval(), "inside", 0, input_shape=INPUT)
    assert maco(other, **settings)[0].isfinite().all()
