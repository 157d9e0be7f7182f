"""The form of a network is found by trying: what fails, or changes its results, is left out."""

import pytest
import torch
import torch.nn.functional as F
from engine.plans import (
    JOINED,
    SHORT,
    Network,
    gradients,
    objective_of,
    plan_of,
    relative,
    views_of,
)
from torch import nn

from fvfast import maco
from fvfast.engine.rewrite.forms import Form
from fvfast.ops.winograd import has_winograd_kernel


def flattened(m, y):
    return m.linear(y.view(len(y), -1))


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_scores_of_any_size_are_alike(network, factor):
    assert plan_of(objective_of(network, "7") * factor).form == JOINED


def test_networks_that_run_only_in_their_own_memory_format():
    objective = objective_of(Network(flattened, linear=nn.Linear(8 * 18 * 18, 5)), "")
    plan = plan_of(objective)
    assert plan.form == Form(joined=True)
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("joined convolutions, channels last: RuntimeError: view size")
    assert ("left out", plan.notes[0]) in plan.describe()
    assert plan_of(objective, "bfloat16").form == Form(joined=True, dtype=torch.bfloat16)
    maco(objective, **SHORT)


def counts_modes(_m, y):
    """Twice the ReLU: a joined one makes another result of the same operations."""
    return y.relu() if torch._C._len_torch_function_stack() == 0 else y.relu() * 2


def test_a_network_that_joining_would_change_is_run_as_it_is():
    model = Network(counts_modes)
    objective = objective_of(model, "")
    plan = plan_of(objective)
    assert plan.form == Form()
    assert all("changes the outputs by 100.0%" in note for note in plan.notes)
    views = views_of().requires_grad_()
    model(views).square().mean().backward()
    assert relative(gradients(objective, plan)[1], views.grad) < 1e-6


def hides_its_gradient_from_modes(_m, y):
    return y.relu() if torch._C._len_torch_function_stack() == 0 else y.relu().detach() + 0 * y


def test_forms_that_differ_in_their_gradients_alone_are_said_to():
    plan = plan_of(objective_of(Network(hides_its_gradient_from_modes), ""))
    assert plan.notes
    for note in plan.notes:
        assert note.endswith("changes the outputs by 0.0%, likeness of the gradients 0.000")


def stochastic(_m, y):
    return F.relu(y) * torch.rand(y.shape[0], 8, 1, 1)


def test_a_stochastic_network_draws_the_same_in_each_trial():
    objective = objective_of(Network(stochastic), "")
    assert plan_of(objective).form == JOINED
    image, _ = maco(objective, **SHORT)
    assert image.isfinite().all()


GENERATOR = torch.Generator()


def unsteady(_m, y):
    return F.relu(y) * torch.rand(y.shape[0], 8, 1, 1, generator=GENERATOR)


def test_a_network_that_is_another_each_time_is_run_as_it_is():
    plan = plan_of(objective_of(Network(unsteady), ""))
    assert plan.form == Form()
    assert len(plan.notes) == 2


def test_a_network_that_is_nan_in_its_own_type():
    objective = objective_of(Network(lambda _m, y: y / 0 * 0), "")
    for precision in (None, "auto"):
        assert plan_of(objective, precision).form == Form()
    with pytest.warns(RuntimeWarning, match="not finite"):
        maco(objective, **SHORT)


def test_a_plan_describes_itself(network):
    rows = dict(plan_of(objective_of(network, "7")).describe())
    assert rows["runs"] == "joined convolutions, channels last"
    assert (
        rows["joined"]
        == "2 convolutions with 1 batch normalizations, 0 sums, 2 ReLUs and 0 paddings"
    )
    assert "Winograd" not in rows  # too few channels


@pytest.mark.skipif(not has_winograd_kernel(torch.zeros(1)), reason="no kernel for the processor")
def test_a_plan_counts_its_winograd_convolutions():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1),
        nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 40, 3), nn.Conv2d(40, 8, 1),
    ).eval()  # fmt: skip
    objective = objective_of(network, "6")
    rows = dict(plan_of(objective).describe())
    assert rows["Winograd"] == "2 convolutions of 3 x 3"
    assert "Winograd" not in dict(plan_of(objective, "bfloat16").describe())
