"""Forms in which a network runs faster: joined operations, another memory format, another type."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from fvfast.engine.recording import Convolution
from fvfast.engine.rewriting import Rewriting, freeze

_IMAGE_DIMENSIONS = 4  # of tensors that have a memory format


@dataclasses.dataclass(frozen=True)
class Form:
    """How a network runs: all that may be changed about it for the length of a run.

    Attributes
    ----------
    joined
        Convolutions do the work of the batch normalisations and ReLUs behind them too, and have no
        gradient of their weights.
    sums
        Joined convolutions take over the sum at the end of a residual branch too.
    channels_last
        Images and joined convolutions keep the channels of a pixel side by side in memory.
    dtype
        Type of the parameters and of the images; None: the network's own.
    autocast
        The parameters keep their type, and torch casts the operations that gain from it to
        ``dtype``.
    """

    joined: bool = False
    sums: bool = False
    channels_last: bool = False
    dtype: torch.dtype | None = None
    autocast: bool = False

    def __str__(self) -> str:
        dtype = "" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        parts = (
            "joined convolutions" if self.joined else "",
            "with sums" if self.sums else "",
            "channels last" if self.channels_last else "",
            f"{dtype} by autocast" if self.autocast else dtype,
        )
        return ", ".join(filter(None, parts)) or "as it is"

    def feed(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images (B, C, H, W) into the memory format."""
        if self.channels_last and images.ndim == _IMAGE_DIMENSIONS:
            return images.contiguous(memory_format=torch.channels_last)
        return images


class Running:
    """A network that is in a form; `in_form` makes it.

    Parameters
    ----------
    form
        The form.
    convolutions
        Each recorded convolution, with the identity of the weight that the network has for it now.
    """

    def __init__(self, form: Form, convolutions: Sequence[tuple[int, Convolution]]) -> None:
        self.form = form
        self._convolutions = convolutions
        self._rewritings: dict[bool, Rewriting] = {}

    @contextlib.contextmanager
    def context(self, device: torch.device, *, join_activations: bool = True) -> Iterator[None]:
        """Context for calls of the network.

        Parameters
        ----------
        device
            Where it runs.
        join_activations
            False leaves ReLUs to themselves, for who wants to change them.
        """
        with contextlib.ExitStack() as stack:
            if self.form.autocast:
                stack.enter_context(
                    torch.autocast(device.type, dtype=self.form.dtype, cache_enabled=False)
                )
            if self.form.joined:
                stack.enter_context(self._rewriting(join_activations))
            yield

    def _rewriting(self, join_activations: bool) -> Rewriting:
        if join_activations not in self._rewritings:
            self._rewritings[join_activations] = Rewriting(
                {
                    weight: freeze(
                        convolution,
                        dtype=self.form.dtype,
                        channels_last=self.form.channels_last,
                        join_sum=self.form.sums,
                        join_activation=join_activations,
                    )
                    for weight, convolution in self._convolutions
                }
            )
        return self._rewritings[join_activations]


@contextlib.contextmanager
def in_form(
    model: nn.Module | None, form: Form, convolutions: Sequence[Convolution]
) -> Iterator[Running]:
    """Put a network into a form, and take it out again, also after an exception.

    Its own tensors are set aside, not changed.

    Parameters
    ----------
    model
        The network, frozen and in evaluation mode; None when only the images are read.
    form
        The form.
    convolutions
        What `fvfast.engine.recording.record_convolutions` found in the network.
    """
    cast: dict[int, torch.Tensor] = {}  # by the identity of the network's own; they may be shared
    with contextlib.ExitStack() as stack:
        if model is not None and form.dtype is not None and not form.autocast:
            for module in model.modules():
                for holder in (module._parameters, module._buffers):
                    stack.enter_context(_cast(holder, form.dtype, cast))
        weights = [cast.get(id(entry.weight), entry.weight) for entry in convolutions]
        yield Running(
            form,
            [(id(weight), entry) for weight, entry in zip(weights, convolutions, strict=True)],
        )


@contextlib.contextmanager
def _cast(
    holder: dict[str, Any], dtype: torch.dtype, cast: dict[int, torch.Tensor]
) -> Iterator[None]:
    """Replace the floating-point tensors of a module by copies in another type."""
    own = {
        name: tensor
        for name, tensor in holder.items()
        if tensor is not None and tensor.is_floating_point() and tensor.dtype != dtype
    }
    try:
        for name, tensor in own.items():
            if id(tensor) not in cast:
                copy = tensor.detach().to(dtype)
                is_parameter = isinstance(tensor, nn.Parameter)
                cast[id(tensor)] = nn.Parameter(copy, requires_grad=False) if is_parameter else copy
            holder[name] = cast[id(tensor)]
        yield
    finally:
        holder.update(own)
