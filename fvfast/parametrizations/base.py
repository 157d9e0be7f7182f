"""The protocol of what is optimized: a run works with any class that has these members."""

import abc
from collections.abc import Callable
from typing import Protocol

import torch

from fvfast.parametrizations.optimizers import OptimizerSpec, ascend, bind_optimizer, keras_adam


class Parametrization(Protocol):
    """The state that N images are made of, and the optimizer that moves it.

    Attributes
    ----------
    state
        (N, ...): what is optimized. A run sets entries of single images back to earlier values.
    optimizer
        Bound to the state. A run sets its learning rate.
    """

    state: torch.Tensor
    optimizer: torch.optim.Optimizer

    def image(self) -> torch.Tensor:
        """Return the images (N, C, H, W) of the state, whose gradient will be asked for."""
        ...

    @property
    def source(self) -> torch.Tensor:
        """What to differentiate with respect to: the last `image`, or the state behind it."""
        ...

    def render(self) -> torch.Tensor:
        """Return the images (N, C, H, W) of the state, without a gradient."""
        ...

    def ascend(self, gradient: torch.Tensor) -> None:
        """Take one step up a gradient with respect to `source`."""
        ...


class Differentiated(abc.ABC):
    """A parametrization whose images autograd follows back to the state.

    Parameters
    ----------
    state
        (N, ...), where the run takes place.
    to_valid
        From unbounded pixels to images of the range that the model takes, both (N, C, H, W).
    optimizer
        See `fvfast.optimize`. Default: Adam with learning rate 0.05 and Keras's epsilon.
    """

    def __init__(
        self,
        state: torch.Tensor,
        to_valid: Callable[[torch.Tensor], torch.Tensor],
        optimizer: OptimizerSpec,
    ) -> None:
        self.state = state.requires_grad_()
        self.optimizer = bind_optimizer(optimizer, self.state, keras_adam)
        self._to_valid = to_valid

    @abc.abstractmethod
    def pixels(self) -> torch.Tensor:
        """Return unbounded pixels (N, C, H, W), attached to the state."""

    def image(self) -> torch.Tensor:
        """Return the images (N, C, H, W), attached to the state."""
        return self._to_valid(self.pixels())

    @property
    def source(self) -> torch.Tensor:
        """The state."""
        return self.state

    def render(self) -> torch.Tensor:
        """Return the images (N, C, H, W)."""
        with torch.no_grad():
            return self.image()

    def ascend(self, gradient: torch.Tensor) -> None:
        """Take one step up a gradient with respect to the state."""
        ascend(self.optimizer, self.state, gradient)
