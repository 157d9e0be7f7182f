import functools

import pytest
import torch

from fvfast.parametrizations.optimizers import (
    KerasNadam,
    ascend,
    bind_optimizer,
    keras_nadam,
    known_sums,
)


@pytest.fixture
def variable():
    return torch.zeros(3, requires_grad=True)


def test_default(variable):
    optimizer = bind_optimizer(None, variable, keras_nadam)
    assert isinstance(optimizer, KerasNadam)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_class_and_factory(variable):
    by_class = bind_optimizer(torch.optim.Adam, variable, keras_nadam)
    assert isinstance(by_class, torch.optim.Adam)
    factory = functools.partial(torch.optim.SGD, lr=0.3, momentum=0.5)
    by_factory = bind_optimizer(factory, variable, keras_nadam)
    assert by_factory.param_groups[0]["lr"] == 0.3
    assert by_factory.param_groups[0]["params"][0] is variable


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.3, "momentum": 0.5, "nesterov": True}),
        (torch.optim.Adam, {"lr": 0.2, "betas": (0.5, 0.9), "eps": 1e-3}),
        (torch.optim.NAdam, {"lr": 0.1, "momentum_decay": 1.0}),
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.3}),
        (torch.optim.RMSprop, {"lr": 0.1, "alpha": 0.5}),
    ],
)
def test_instance_gives_its_settings_and_is_left_alone(variable, kind, settings):
    given = kind([torch.zeros(1, requires_grad=True)], **settings)
    bound = bind_optimizer(given, variable, keras_nadam)
    assert type(bound) is kind
    assert bound is not given
    for name, value in settings.items():
        assert bound.param_groups[0][name] == value
    assert bound.param_groups[0]["params"] == [variable]
    assert not given.state


@pytest.mark.parametrize("maximize", [False, True])
def test_ascent_goes_up(variable, maximize):
    optimizer = torch.optim.SGD([variable], lr=0.5, maximize=maximize)
    ascend(optimizer, variable, torch.tensor([1.0, -2.0, 0.0]))
    assert torch.equal(variable.detach(), torch.tensor([0.5, -1.0, 0.0]))
    assert variable.grad is None


def test_instance_of_a_class_with_settings_of_its_own(variable):
    class Scaled(torch.optim.SGD):
        def __init__(self, params, scale, **settings):
            super().__init__(params, **settings)
            self.scale = scale

    given = Scaled([torch.zeros(1, requires_grad=True)], scale=7.0, lr=3.0)
    torch.optim.lr_scheduler.StepLR(given, 1)  # wraps the step of the one it belongs to
    bound = bind_optimizer(given, variable, keras_nadam)
    assert bound.scale == 7.0
    ascend(bound, variable, torch.ones(3))
    assert torch.equal(variable.detach(), torch.full((3,), 3.0))


def test_keras_nadam_is_torchs_nadam_with_keras_settings():
    torch.manual_seed(0)
    ours, theirs = (torch.zeros(2, 50, requires_grad=True) for _ in range(2))
    one = KerasNadam([ours], lr=0.3)
    other = torch.optim.NAdam([theirs], lr=0.3, momentum_decay=1.0, eps=1e-7)
    double = torch.zeros(2, 50, dtype=torch.float64, requires_grad=True)
    exact = torch.optim.NAdam([double], lr=0.3, momentum_decay=1.0, eps=1e-7)
    for _ in range(256):
        gradient = torch.randn(2, 50)
        for optimizer, variable in ((one, ours), (other, theirs), (exact, double)):
            variable.grad = gradient.to(variable.dtype)
            optimizer.step()
    # Twice the error of torch's own in the same precision.
    allowed = 2 * (theirs - double).abs().max()
    assert (ours - double).abs().max() <= allowed


def test_sums_hold_until_the_tensor_changes(variable):
    variable = variable.detach().reshape(1, 3)
    optimizer = KerasNadam([variable])
    assert known_sums(optimizer, variable) is None
    ascend(optimizer, variable, torch.tensor([[1.0, -2.0, 0.5]]))
    sums = known_sums(optimizer, variable)
    expected = torch.stack((variable.sum(1), variable.square().sum(1)), 1)
    assert torch.allclose(sums, expected.double())
    variable += 1
    assert known_sums(optimizer, variable) is None


@pytest.mark.parametrize("given", [torch.optim.LBFGS, torch.optim.LBFGS([torch.zeros(1)])])
def test_optimizers_that_need_a_closure_are_refused(variable, given):
    with pytest.raises(TypeError, match="LBFGS evaluates its objective several times"):
        bind_optimizer(given, variable, keras_nadam)


def test_factory_for_another_tensor_is_refused(variable):
    with pytest.raises(TypeError, match="of the tensors it is given, got one"):
        bind_optimizer(
            lambda _: torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0),
            variable,
            keras_nadam,
        )


def test_other_things_are_refused(variable):
    with pytest.raises(TypeError, match="optimizer must be None"):
        bind_optimizer("adam", variable, keras_nadam)
    with pytest.raises(TypeError, match="got one that returns list"):
        bind_optimizer(lambda parameters: parameters, variable, keras_nadam)
