"""Optimizers for gradient ascent: the default, and whatever form a user gives one in."""

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch

OptimizerSpec = (
    torch.optim.Optimizer
    | type[torch.optim.Optimizer]
    | Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    | None
)


def keras_nadam(parameters: list[torch.Tensor], lr: float = 1.0) -> torch.optim.Optimizer:
    """NAdam as Keras 2.11 and later define it: its momentum schedule and epsilon.

    Parameters
    ----------
    parameters
        What is optimised.
    lr
        Learning rate.

    References
    ----------
    ``keras.optimizers.Nadam``; T. Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    PyTorch's own defaults (momentum_decay=4e-3, eps=1e-8) follow another schedule.
    """
    return torch.optim.NAdam(parameters, lr=lr, momentum_decay=1.0, eps=1e-7)


def keras_adam(parameters: list[torch.Tensor], lr: float = 0.05) -> torch.optim.Optimizer:
    """Adam with Keras's epsilon, 1e-7, and Xplique's learning rate for `fvfast.optimize`."""
    return torch.optim.Adam(parameters, lr=lr, eps=1e-7)


def bind_optimizer(
    optimizer: OptimizerSpec,
    variable: torch.Tensor,
    default: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
) -> torch.optim.Optimizer:
    """Make an optimizer for one tensor from what the user gave.

    Parameters
    ----------
    optimizer
        None for the default; a class; a function from a list of tensors to an optimizer; or an
        optimizer, of which the class and the settings of its first parameter group are used and
        which is itself left alone.
    variable
        The tensor to optimise.
    default
        Builds the default optimizer.

    Returns
    -------
    optimizer
        A new optimizer bound to the variable.

    Raises
    ------
    TypeError
        Anything else was given, or the optimizer takes other arguments.
    """
    if optimizer is None:
        return default([variable])
    if isinstance(optimizer, torch.optim.Optimizer):
        accepted = inspect.signature(type(optimizer).__init__).parameters
        settings: dict[str, Any] = {
            name: value for name, value in optimizer.param_groups[0].items() if name in accepted
        }
        settings.pop("params", None)
        return type(optimizer)([variable], **settings)
    if callable(optimizer):
        # Optimizer itself wants defaults, unlike its subclasses.
        made = cast(Any, optimizer)([variable])
        if isinstance(made, torch.optim.Optimizer):
            return made
        raise TypeError(f"the optimizer factory returned {type(made).__name__}, not an optimizer.")
    raise TypeError(
        "optimizer must be None, a torch optimizer, its class, or a function that makes one from a "
        f"list of tensors; got {type(optimizer).__name__}."
    )


def ascend(
    optimizer: torch.optim.Optimizer, variable: torch.Tensor, gradient: torch.Tensor
) -> None:
    """Take one step up the gradient, whichever way the optimizer was told to go."""
    maximize = bool(optimizer.param_groups[0].get("maximize", False))
    variable.grad = gradient if maximize else -gradient
    optimizer.step()
    variable.grad = None
