"""Lets gradients pass through ReLUs, to activate units that are dead on the first image."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from fvfast.engine.borrowing.modes import Mode


class _OpenReLU(torch.autograd.Function):
    """A clamp to [0, ceiling] whose gradient is the identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, ceiling: float | None, inplace: bool) -> torch.Tensor:
        if not inplace:
            return x.clamp(min=0, max=ceiling)
        ctx.mark_dirty(x)
        return x.clamp_(min=0, max=ceiling)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # noqa: ARG004
        return gradient, None, None


RELU_CEILINGS: dict[Any, float | None] = {
    torch.relu: None,
    torch.relu_: None,
    torch.Tensor.relu: None,
    torch.Tensor.relu_: None,
    F.relu: None,
    F.relu_: None,
    F.relu6: 6.0,
}
"""Every way to call a ReLU, with its upper limit."""

_IN_PLACE = {torch.relu_, torch.Tensor.relu_, F.relu_}


class open_relu_gradients(Mode):  # noqa: N801 (used as a context manager)
    """Within this context, ReLU and ReLU6 pass gradients on unchanged.

    Forward values stay the same. Modules, functions and in-place forms are all covered, and the
    model itself is not touched.

    References
    ----------
    Xplique's ``override_relu_gradient`` with ``open_relu_policy``.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace ReLUs, run everything else as it is."""
        settings = dict(kwargs or {})
        if func in RELU_CEILINGS:
            x, *rest = args
            inplace = func in _IN_PLACE or bool(settings.get("inplace", rest and rest[0]))
            return _OpenReLU.apply(x, RELU_CEILINGS[func], inplace)
        if func is F.hardtanh:  # what torch.nn.ReLU6 calls
            x, low, high, inplace = _hardtanh_arguments(*args, **settings)
            if low == 0:
                return _OpenReLU.apply(x, high, inplace)
        return func(*args, **settings)


def _hardtanh_arguments(
    input: torch.Tensor,  # noqa: A002 (torch's name)
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> tuple[torch.Tensor, float, float, bool]:
    return input, min_val, max_val, inplace
