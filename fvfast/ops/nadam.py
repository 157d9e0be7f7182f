"""The numbers of a step of NAdam: computed for one step, or a table of those of many.

Source: T. Dozat, "Incorporating Nesterov momentum into Adam" (2016).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fvfast.ops._checks import reject, require_tensor
from fvfast.ops._memory import Named
from fvfast.ops._tables import current_row, known_row
from fvfast.ops.philox import split_step


class Rates(NamedTuple):
    """The numbers of one step of NAdam, as in the schema.

    With a table, row min(counter, rows - 1) has `gradient_rate`, `momentum_rate` and `correction`.
    """

    beta1: float
    beta2: float
    gradient_rate: float
    momentum_rate: float
    correction: float
    epsilon: float
    rates: torch.Tensor | None = None  # (rows, 3)
    counter: torch.Tensor | None = None

    def numbers(self) -> dict[str, Any]:
        """Return the numbers as the reference takes them, as scalars where there is a table."""
        found: Sequence[Any] = (self.gradient_rate, self.momentum_rate, self.correction)
        if self.rates is not None and self.counter is not None:
            found = current_row(self.rates, self.counter).unbind()
        names = ("gradient_rate", "momentum_rate", "correction")
        betas = (self.beta1, self.beta2)
        return {"betas": betas, "epsilon": self.epsilon, **dict(zip(names, found, strict=True))}

    def known(self) -> "Rates":
        """Return the same without tensors, which are read: on the CPU, where they can be."""
        if self.rates is None or self.counter is None:
            return self
        gradient_rate, momentum_rate, correction = known_row(self.rates, self.counter)
        return Rates(self.beta1, self.beta2, gradient_rate, momentum_rate, correction, self.epsilon)

    def tensors(self) -> list[Named]:
        """Return what kernels read, under the names of messages."""
        return [("rates", self.rates), ("counter", self.counter)]


def nadam_momentum(step: int, beta1: float = 0.9, momentum_decay: float = 1.0) -> float:
    """Return NAdam's momentum of a step, which counts from 1.

    Parameters
    ----------
    step
        At least 1.
    beta1
        What the momentum grows to.
    momentum_decay
        How fast. Keras: 1. PyTorch: 4e-3.

    Returns
    -------
    momentum
        In [beta1 / 2, beta1).
    """
    return beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))


def nadam_rates(
    *,
    step: int,
    lr: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-7,
    momentum_decay: float = 1.0,
    mu_product: float | None = None,
    maximize: bool = True,
) -> Rates:
    """Return the numbers of one step of NAdam; the parameters are those of `phase_update_`."""
    beta1, beta2 = betas
    if mu_product is None:
        mu_product = 1.0
        for earlier in range(1, step):
            mu_product *= nadam_momentum(earlier, beta1, momentum_decay)
    momentum = nadam_momentum(step, beta1, momentum_decay)
    following = nadam_momentum(step + 1, beta1, momentum_decay)
    product = mu_product * momentum
    rate = lr if maximize else -lr
    return Rates(
        beta1,
        beta2,
        rate * (1 - momentum) / (1 - product),
        rate * following / (1 - product * following),
        1 - beta2**step,
        eps,
    )


def nadam_table(
    steps: int,
    *,
    lr: float | Sequence[float] = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum_decay: float = 1.0,
    maximize: bool = True,
) -> torch.Tensor:
    """Return what differs between the steps of NAdam, for the `rates` of `phase_update_`.

    Parameters
    ----------
    steps
        How many rows, at least 1.
    lr
        The learning rate, or that of each step.
    betas, momentum_decay, maximize
        Of `phase_update_`, which needs the same betas.

    Returns
    -------
    rates
        (steps, 3) float64 on the CPU: row k has the numbers of step k + 1.

    Raises
    ------
    ValueError
        If there are no steps, or not as many learning rates.
    """
    learning_rates = [lr] * steps if isinstance(lr, float | int) else list(lr)
    if steps < 1:
        reject("nadam_table", "steps", "an integer >= 1", steps)
    if len(learning_rates) != steps:
        reject("nadam_table", "lr", f"a number, or {steps} of them", len(learning_rates))
    rows, product = [], 1.0
    for step, rate in enumerate(learning_rates, start=1):
        numbers = nadam_rates(
            step=step, lr=rate, betas=betas, momentum_decay=momentum_decay, mu_product=product,
            maximize=maximize,
        )  # fmt: skip
        rows.append((numbers.gradient_rate, numbers.momentum_rate, numbers.correction))
        product *= nadam_momentum(step, betas[0], momentum_decay)
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


def rates_of_step(
    function: str,
    *,
    step: int | torch.Tensor,
    rates: torch.Tensor | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-7,
    **nadam: Any,
) -> Rates:
    """Return the numbers of one step, or a table of them with the counter that says which row.

    Parameters are those of `phase_update_`, with the function's name for messages.
    """
    if rates is None:
        if isinstance(step, torch.Tensor):
            expected = "an integer, or rates beside a tensor: see nadam_table"
            reject(function, "step", expected, "a tensor without rates")
        return nadam_rates(step=step, betas=betas, eps=eps, **nadam)
    require_tensor(function, "rates", rates)
    if not isinstance(step, torch.Tensor):
        expected = "a torch.int64 tensor of one element, which says the row of rates"
        reject(function, "step", expected, step)
    if rates.requires_grad:
        reject(function, "rates", "a tensor without a gradient", "one that requires it")
    if nadam:
        expected = "none of them beside rates, which they are a part of"
        reject(function, ", ".join(nadam), expected, ", ".join(map(str, nadam.values())))
    _, counter = split_step(function, step)
    return Rates(*betas, 0.0, 0.0, 1.0, eps, rates, counter)
