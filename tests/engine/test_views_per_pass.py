"""How many views go through a network at once, by the memory that they take."""

import dataclasses
import functools
import warnings

import torch
from engine.plans import INPUT, Network, gradients, objective_of, plan_of, views_of
from torch import nn

from fvfast import Objective
from fvfast.engine.rewrite.plan import Planner
from fvfast.engine.rewrite.trials import PROBE_VIEWS


def with_memory(free):
    """Make planners that find so many bytes free."""
    return functools.partial(Planner, available=lambda _device: free)


def test_views_per_pass_by_the_memory():
    """A network whose activations are known: nothing but what squares keep for their gradient."""

    def squares(_m, y):
        return y.square().square()

    model = Network(squares)
    model.conv = nn.Identity()
    model.weight = nn.Parameter(torch.ones(()))
    objective = objective_of(model.eval(), "")
    image = 4 * 3 * 20 * 20
    kept = 3 * image  # the inputs of two squares, and that of the score's mean of squares
    for free, expected in ((100 * kept, 60), (10 * kept, 6), (kept, 1), (0, 1), (None, None)):
        plan = plan_of(objective, views=views_of(4), planner=with_memory(free))
        assert plan.views_per_pass == expected


def test_parameters_are_no_activations():
    """Neither are their copies in another type."""
    model = Network(lambda m, y: m.linear(y.flatten(1)), linear=nn.Linear(8 * 18 * 18, 400))
    objective = objective_of(model, "")
    planner = with_memory(10**8)
    parameters = sum(4 * parameter.numel() for parameter in model.parameters())
    own = plan_of(objective, planner=planner).views_per_pass
    assert own > 10**8 / parameters
    half = plan_of(objective, "bfloat16", planner=planner).views_per_pass
    assert half >= 1.5 * own


def test_what_fits_the_memory_is_what_runs(network):
    objective = Objective.neuron(network, "7", [1, 2, 3], input_shape=INPUT)
    sizes = []
    network[7].register_forward_hook(lambda _m, _i, output: sizes.append(len(output)))
    plan = plan_of(objective, planner=with_memory(0))
    sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, gradient = gradients(objective, plan, views_of(9))
    assert set(sizes) == {1}
    expected = gradients(objective, dataclasses.replace(plan, views_per_pass=None), views_of(9))
    torch.testing.assert_close((scores, gradient), expected)


def test_a_kept_plan_asks_how_much_memory_is_free_now(network):
    objective = objective_of(network, "7")
    kept = plan_of(objective, planner=with_memory(0))
    assert kept.views_per_pass == 1
    now = kept.for_run(objective.scorer([0]), torch.device("cpu"))
    assert now.views_per_pass > 1


def test_no_more_views_than_there_are(network):
    """A plan is made with a few views of the first image."""
    sizes = []
    network[7].register_forward_hook(lambda _m, _i, output: sizes.append(len(output)))
    objective = objective_of(network, "7")
    sizes.clear()
    plan_of(objective, views=views_of(50))
    assert max(sizes) == PROBE_VIEWS
    sizes.clear()
    plan_of(objective, views=views_of(1))
    assert max(sizes) == 1
