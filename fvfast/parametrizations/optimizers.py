"""Optimizers for gradient ascent: the defaults, and those that users give in various forms."""

import collections
import inspect
from collections.abc import Callable
from typing import Any, cast

import torch

from fvfast.ops.nadam import nadam_momentum
from fvfast.ops.phase_update import phase_update_

OptimizerSpec = (
    torch.optim.Optimizer
    | type[torch.optim.Optimizer]
    | Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    | None
)


class KerasNadam(torch.optim.Optimizer):
    """NAdam as Keras 2.11 and later define it: its momentum schedule and epsilon.

    One pass over memory per step, where `torch.optim.NAdam` takes several.

    Parameters
    ----------
    params
        What is optimized: tensors (N, ...), one image per entry of the first dimension.
    lr
        Learning rate.
    betas
        Decay of the averages of the gradient and of its square.
    eps
        Added to the denominator.
    momentum_decay
        Of the momentum schedule; 1 is Keras's, PyTorch's own default is 4e-3.
    maximize
        Go up the gradient.

    References
    ----------
    ``keras.optimizers.Nadam``; T. Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        momentum_decay: float = 1.0,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "momentum_decay": momentum_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def restart(self) -> None:
        """Forget the steps that were taken, in the same memory."""
        for state in self.state.values():
            state["exp_avg"].zero_()
            state["exp_avg_sq"].zero_()
            state["sums_of_version"] = None  # the sums are of another phase

    def averages(
        self, parameter: torch.Tensor, sums: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the averages of the gradient and of its square, for who takes the steps itself.

        Parameters
        ----------
        parameter
            What is optimized.
        sums
            Where that leaves the sums of `phase_update_`; `sums_hold` says that they hold.
        """
        state = self._begun(parameter)
        state["sums"] = sums
        return state["exp_avg"], state["exp_avg_sq"]

    def tensors(self, parameter: torch.Tensor) -> list[torch.Tensor]:
        """Return all that a step changes besides the parameter; none before the first."""
        state = self.state[parameter]
        return [state[name] for name in ("exp_avg", "exp_avg_sq", "sums")] if state else []

    def sums_hold(self, parameter: torch.Tensor) -> None:
        """Learn that the sums are those of the parameter as it is: both were written back."""
        self.state[parameter]["sums_of_version"] = parameter._version

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every tensor that has a gradient; a closure is not supported."""
        if closure is not None:
            raise TypeError("KerasNadam.step() takes no closure: call it without one.")
        for group in self.param_groups:
            settings = {name: value for name, value in group.items() if name != "params"}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, settings)

    def _update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, settings: dict[str, Any]
    ) -> None:
        def update(exp_avg: torch.Tensor, exp_avg_sq: torch.Tensor, **nadam: Any) -> torch.Tensor:
            return phase_update_(parameter, gradient, exp_avg, exp_avg_sq, **nadam)

        self._advance(parameter, settings, update)

    def ascend_with(self, operation: Callable[..., torch.Tensor]) -> None:
        """Take one step up with an operation that makes the gradient of the only tensor itself.

        Parameters
        ----------
        operation
            Called with the two averages and, by name, the settings of `phase_update_`. Returns the
            sums that `phase_update_` returns.
        """
        (group,) = self.param_groups
        (parameter,) = group["params"]
        settings = {name: value for name, value in group.items() if name != "params"}
        self._advance(parameter, {**settings, "maximize": True}, operation)

    def _advance(
        self,
        parameter: torch.Tensor,
        settings: dict[str, Any],
        operation: Callable[..., torch.Tensor],
    ) -> None:
        state = self._begun(parameter)
        state["step"] += 1
        state["sums"] = operation(
            state["exp_avg"],
            state["exp_avg_sq"],
            step=state["step"],
            mu_product=state["mu_product"],
            **settings,
        )
        state["sums_of_version"] = parameter._version
        state["mu_product"] *= nadam_momentum(
            state["step"], settings["betas"][0], settings["momentum_decay"]
        )

    def _begun(self, parameter: torch.Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mu_product"] = 1.0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def known_sums(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> torch.Tensor | None:
    """Return the sums of a tensor and its squares that an update left, if they still hold."""
    if not isinstance(optimizer, KerasNadam):
        return None
    state = optimizer.state[parameter]
    return state["sums"] if state.get("sums_of_version") == parameter._version else None


def keras_nadam(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    """Make the default of `fvfast.maco`: `KerasNadam` with learning rate 1."""
    return KerasNadam(parameters, lr=1.0, maximize=True)


def adam(parameters: list[torch.Tensor], lr: float = 0.1) -> torch.optim.Optimizer:
    """Make the default for a pyramid: Adam, in one pass over memory where torch has that."""
    is_fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.Adam(parameters, lr=lr, maximize=True, fused=is_fused)


def keras_adam(parameters: list[torch.Tensor], lr: float = 0.05) -> torch.optim.Optimizer:
    """Adam with Keras's epsilon, 1e-7, and Xplique's learning rate for `fvfast.optimize`."""
    return torch.optim.Adam(parameters, lr=lr, eps=1e-7)


def bind_optimizer(
    optimizer: OptimizerSpec,
    parameter: torch.Tensor,
    default: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
) -> torch.optim.Optimizer:
    """Make an optimizer for one tensor from what the user gave.

    Parameters
    ----------
    optimizer
        None for the default; a class; a function from a list of tensors to an optimizer; or an
        optimizer, of which the class and the settings of its first parameter group are used and
        which is itself left alone.
    parameter
        The tensor to optimize.
    default
        Builds the default optimizer.

    Returns
    -------
    optimizer
        A new optimizer bound to the parameter.

    Raises
    ------
    TypeError
        Anything else was given, or the optimizer takes other arguments.
    """
    check_optimizer(optimizer)
    if optimizer is None:
        return default([parameter])
    if isinstance(optimizer, torch.optim.Optimizer):
        return _rebound(optimizer, parameter)
    # A cast, because the base class wants defaults, unlike its subclasses.
    made = cast(Any, optimizer)([parameter])
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be a function that returns a torch optimizer, got one that returns "
            f"{type(made).__name__}."
        )
    if not any(tensor is parameter for group in made.param_groups for tensor in group["params"]):
        raise TypeError(
            "optimizer must be a function that makes an optimizer of the tensors it is given, got "
            "one that makes an optimizer of others."
        )
    _refuse_closures(made)
    return made


def check_optimizer(optimizer: OptimizerSpec) -> None:
    """Raise TypeError unless `bind_optimizer` can make an optimizer from this."""
    if isinstance(optimizer, torch.optim.Optimizer):
        _refuse_closures(optimizer)
    elif optimizer is not None and not callable(optimizer):
        raise TypeError(
            "optimizer must be None, a torch optimizer, its class, or a function that makes one "
            f"from a list of tensors; got {type(optimizer).__name__}."
        )


def _refuse_closures(optimizer: torch.optim.Optimizer) -> None:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"{type(optimizer).__name__} evaluates its objective several times per step, which "
            "fvfast does not do; use an optimizer whose step() needs no closure."
        )


def _rebound(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> torch.optim.Optimizer:
    """Copy an optimizer with all its settings, without its state, for another tensor."""
    bound = object.__new__(type(optimizer))  # copy.copy() drops what subclasses add
    bound.__dict__.update(optimizer.__dict__)
    # A learning rate scheduler wraps the step of the one optimizer it belongs to.
    bound.__dict__.pop("step", None)
    bound.state = collections.defaultdict(dict)
    bound.param_groups = [{**optimizer.param_groups[0], "params": [parameter]}]
    return bound


def ascend(
    optimizer: torch.optim.Optimizer, parameter: torch.Tensor, gradient: torch.Tensor
) -> None:
    """Take one step up the gradient, whether the optimizer minimizes or maximizes."""
    maximize = bool(optimizer.param_groups[0].get("maximize", False))
    parameter.grad = gradient if maximize else -gradient
    optimizer.step()
    parameter.grad = None


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate; raise TypeError if the optimizer has none."""
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise TypeError(
                f"{type(optimizer).__name__} has no learning rate 'lr': leave learning_rate out."
            )
        group["lr"] = value
