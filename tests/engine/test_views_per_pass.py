"""How many views go through a network at once, by the memory that they take."""

import dataclasses
import functools
import warnings

import pytest
import torch
from engine.plans import INPUT, Network, gradients, objective_of, plan_of, views_of
from torch import nn

from fvfast import Objective
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.engine.rewrite.plan import Plan, Planner
from fvfast.engine.rewrite.trials import PROBE_VIEWS
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


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


class SmallMemory(FormStore):
    """Keeps forms of which a view seems to take more memory than there is."""

    def take(self, model, key):
        form = super().take(model, key)
        if form is not None:
            form.plan = dataclasses.replace(form.plan, bytes_per_view=1e18)
        return form


def test_a_run_that_may_not_split_is_refused_before_its_first_step(network):
    objective = Objective.neuron(network, "7", [1, 2, 3], input_shape=INPUT)
    settings = MacoSettings(nb_steps=2, nb_crops=2, custom_shape=(32, 32))
    store, sizes = SmallMemory(), []

    def draw(combinations, **how):
        run = Run(objective, settings, progress=False, forms=store, **how)
        return run.draw(combinations).images[-1]

    expected = draw(range(3), splits=False)  # chooses the form
    network[7].register_forward_hook(lambda _m, _i, output: sizes.append(len(output)))
    draw(range(3), splits=False)  # the hook changes the network, so this one chooses another form
    sizes.clear()
    with pytest.raises(torch.OutOfMemoryError, match="holds 1 of the 6 views that have to go"):
        draw(range(3), splits=False)
    draw(range(3), splits=False)
    sizes.clear()
    torch.testing.assert_close(draw(range(3)), expected, rtol=0, atol=2e-4)
    assert set(sizes) == {1}
    # One picture has no smaller batch.
    assert draw([0], splits=False).shape == (1, 3, 32, 32)


def test_a_network_that_takes_one_view_takes_it_with_any_memory():
    plan = Plan(views_per_pass=1, takes_one_view=True)
    assert plan.takes_at_once(8)
    assert not Plan(views_per_pass=7).takes_at_once(8)
    assert Plan(views_per_pass=8).takes_at_once(8)
    assert Plan().takes_at_once(8)
