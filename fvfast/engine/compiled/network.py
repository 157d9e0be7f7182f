"""A network whose passes are compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

Compiled = Callable[..., Sequence[torch.Tensor]]
"""Compiled code of a graph."""


class CompiledNetwork:
    """Maps views (B, C, h, w) of one shape to outputs of layers; autograd can differentiate it.

    Parameters
    ----------
    forward
        Maps views, cotangents and constants to outputs, and what is kept for the backward pass.
    backward
        Maps what was kept and cotangents to the gradient of the views.
    constants
        Tensors of the network, or computed from them.
    cotangents
        Of the outputs' shapes, types and memory formats.
    places
        For each layer, which of the outputs it is.
    """

    def __init__(
        self,
        forward: Compiled,
        backward: Compiled,
        constants: Sequence[torch.Tensor],
        cotangents: Sequence[torch.Tensor],
        places: Sequence[int],
    ) -> None:
        self._forward = forward
        self._backward = backward
        self._constants = tuple(constants)
        self._count = len(cotangents)
        self._formats = [(one.shape, one.stride(), one.dtype) for one in cotangents]
        self._places = tuple(places)

    def __call__(self, views: torch.Tensor) -> list[torch.Tensor]:
        """Run views, of the shape and memory format that it was compiled for."""
        outputs = _Compiled.apply(views, self)
        return [outputs[place] for place in self._places]

    def run_forward(
        self, views: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Return outputs, and what the backward pass needs."""
        with _plain(views.device):
            results = self._forward(views, *self._constants)
        return tuple(results[: self._count]), tuple(results[self._count :])

    def run_backward(
        self, kept: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Return the gradient of the views."""
        formatted = [
            _in_format(one, *form) for one, form in zip(cotangents, self._formats, strict=True)
        ]
        with _plain(formatted[0].device):
            (gradient,) = self._backward(*kept, *formatted)
        return gradient


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, views: torch.Tensor, network: CompiledNetwork
    ) -> tuple[torch.Tensor, ...]:
        outputs, kept = network.run_forward(views)
        ctx.network = network
        ctx.save_for_backward(*kept)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.network.run_backward(ctx.saved_tensors, cotangents), None


class _plain:  # noqa: N801 (a context manager)
    """Without the modes of the form: what they do is done in the compiled code.

    Parameters
    ----------
    device
        Where the code runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._without_autocast = torch.autocast(device.type, enabled=False)

    def __enter__(self) -> None:
        self._without_functions = torch._C.DisableTorchFunction()
        self._without_functions.__enter__()
        self._without_autocast.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._without_autocast.__exit__(*error)
        self._without_functions.__exit__(*error)


def _in_format(
    tensor: torch.Tensor, shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """Bring a tensor into the memory format for which code was compiled."""
    if tensor.stride() == stride and tensor.dtype == dtype:
        return tensor
    return torch.empty_strided(shape, stride, dtype=dtype, device=tensor.device).copy_(tensor)
