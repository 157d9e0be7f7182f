import functools

import pytest
import torch

from fvfast.optimizers import ascend, bind_optimizer, keras_nadam


@pytest.fixture
def variable():
    return torch.zeros(3, requires_grad=True)


def test_default(variable):
    optimizer = bind_optimizer(None, variable, keras_nadam)
    assert isinstance(optimizer, torch.optim.NAdam)
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
        (torch.optim.LBFGS, {"lr": 0.1}),
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


def test_other_things_are_refused(variable):
    with pytest.raises(TypeError, match="optimizer must be None"):
        bind_optimizer("adam", variable, keras_nadam)
    with pytest.raises(TypeError, match="factory returned list"):
        bind_optimizer(lambda parameters: parameters, variable, keras_nadam)
